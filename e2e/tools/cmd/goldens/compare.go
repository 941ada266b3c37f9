package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What may differ between two servers that behave the same, and nothing else. Zero fields are not
// printed, so an id or a term that is missing is still a difference. HashKV is compared exactly.
var normalisations = []struct {
	pattern *regexp.Regexp
	replace string
}{
	// Cluster and member ids.
	{regexp.MustCompile(`\b(cluster_id|member_id|leader):\d+`), "$1:ID"},
	{regexp.MustCompile(`members:\{ID:\d+`), "members:{ID:ID"},
	// Raft term and indexes.
	{regexp.MustCompile(`\b(raft_term|raftTerm|raftIndex|raftAppliedIndex):\d+`), "$1:N"},
	// Sizes of the database and of the snapshot.
	{regexp.MustCompile(`\b(dbSize|dbSizeInUse):\d+`), "$1:N"},
	{regexp.MustCompile(`\b(msgs|bytes)=\d+`), "$1=N"},
	// Where the member listens and what it is called.
	{regexp.MustCompile(`(https?://[^":]+):\d+`), "$1:PORT"},
	{regexp.MustCompile(`(members:\{ID:ID) name:"[^"]*"`), `$1 name:"NAME"`},
}

var (
	remainingTTL = regexp.MustCompile(`\bTTL:(\d+)`)
	leaseKeys    = regexp.MustCompile(`keys:"[^"]*"( keys:"[^"]*")+`)
)

// compare returns a description of every golden that the answers do not match.
func compare(goldens, answers []string) []string {
	var differences []string
	for i := range max(len(goldens), len(answers)) {
		golden, answer := lineAt(goldens, i), lineAt(answers, i)
		if same(golden, answer) {
			continue
		}
		differences = append(differences, fmt.Sprintf(
			"line %d\n  etcd  %s\n  here  %s\n        %s", i+1, golden, answer, mark(golden, answer)))
	}
	return differences
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(no line)"
}

func same(golden, answer string) bool {
	golden, answer = normalise(golden), normalise(answer)
	return golden == answer || golden == withTTLOf(golden, answer)
}

func normalise(line string) string {
	for _, n := range normalisations {
		line = n.pattern.ReplaceAllString(line, n.replace)
	}
	// etcd lists the keys of a lease in the order of a Go map: another one at each call.
	return leaseKeys.ReplaceAllStringFunc(line, func(list string) string {
		keys := strings.Split(list, " ")
		slices.Sort(keys)
		return strings.Join(keys, " ")
	})
}

// withTTLOf returns answer with the golden's remaining TTL where the two are within a second.
func withTTLOf(golden, answer string) string {
	want, got := remainingTTL.FindStringSubmatch(golden), remainingTTL.FindStringSubmatch(answer)
	if want == nil || got == nil {
		return answer
	}
	wantSeconds, _ := strconv.Atoi(want[1])
	gotSeconds, _ := strconv.Atoi(got[1])
	if gotSeconds < wantSeconds-1 || gotSeconds > wantSeconds+1 {
		return answer
	}
	return strings.Replace(answer, got[0], want[0], 1)
}

// mark points at the first byte in which the two lines differ after normalising.
func mark(golden, answer string) string {
	golden, answer = normalise(golden), normalise(answer)
	i := 0
	for i < len(golden) && i < len(answer) && golden[i] == answer[i] {
		i++
	}
	return fmt.Sprintf("first difference: etcd %q, here %q", excerpt(golden, i), excerpt(answer, i))
}

// excerpt is what stands at and a little before position i.
func excerpt(line string, i int) string {
	const before, after = 20, 40
	return line[max(0, i-before):min(len(line), i+after)]
}
