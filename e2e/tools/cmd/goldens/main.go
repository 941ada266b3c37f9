// Goldens asks one fresh single-member server the questions whose answers by etcd 3.7.3 are in
// e2e/goldens/etcd-3.7.3.txt, and prints the answers or compares them with that file.
//
//	goldens ADDR                 print "## NAME ANSWER", a line a question
//	goldens -check FILE ADDR     compare after normalising; exit 1 and a diff when they differ
//
// The questions build on each other (revisions, lease ids), so the server has to be fresh: an
// empty data directory, no write before this program.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"engram.dev/e2e/tools/internal/endpoint"
)

// probeTimeout bounds the whole dialogue. etcd needs about a second; a server that leaves a
// question unanswered gets "DeadlineExceeded" for the rest of the lines.
const probeTimeout = 60 * time.Second

func main() {
	check := flag.String("check", "", "compare the answers with this `file`")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: goldens [-check FILE] HOST:PORT")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *check); err != nil {
		fmt.Fprintln(os.Stderr, "goldens:", err)
		os.Exit(1)
	}
}

func run(addr, goldenFile string) error {
	answers, err := ask(addr)
	if err != nil {
		return err
	}
	if goldenFile == "" {
		fmt.Println(strings.Join(answers, "\n"))
		return nil
	}
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		return err
	}
	goldens := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if differences := compare(goldens, answers); len(differences) > 0 {
		fmt.Println(strings.Join(differences, "\n"))
		return fmt.Errorf("%d of %d answers differ from %s", len(differences), len(goldens), goldenFile)
	}
	fmt.Printf("goldens: %d answers, 0 differences\n", len(answers))
	return nil
}

func ask(addr string) ([]string, error) {
	server, err := endpoint.Dial(addr)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()

	p := &probe{ctx: ctx, Endpoint: server}
	// The order is part of the goldens: each topic starts from the store the one before left.
	p.askReadsAndWrites()
	p.askTxnLimits()
	p.askBadRequests()
	p.askRanges()
	p.askLeases()
	p.askWatches()
	p.askCompaction()
	p.askMaintenance()
	p.askCluster()
	p.askAuth()
	p.askRequestSizes()
	p.askRangeStreams()
	p.askEdge()
	p.askSnapshot()
	return p.lines, nil
}
