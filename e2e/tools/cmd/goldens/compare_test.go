package main

import (
	"testing"
)

const statusLine = `## status OK header:{cluster_id:1 member_id:2 revision:9 raft_term:2} dbSize:36864 leader:2 raftIndex:27`

func TestOnlyWhatMayDifferIsNormalised(t *testing.T) {
	cases := []struct {
		name, golden, answer string
		same                 bool
	}{
		{"ids, terms and sizes", statusLine, `## status OK header:{cluster_id:7 member_id:8 revision:9 raft_term:1} dbSize:1 leader:8 raftIndex:3`, true},
		{"another revision", statusLine, `## status OK header:{cluster_id:1 member_id:2 revision:8 raft_term:2} dbSize:36864 leader:2 raftIndex:27`, false},
		{"an id that is missing", statusLine, `## status OK header:{member_id:2 revision:9 raft_term:2} dbSize:36864 leader:2 raftIndex:27`, false},
		{"TTL within a second", `ID:77 TTL:99 grantedTTL:100`, `ID:77 TTL:100 grantedTTL:100`, true},
		{"TTL two seconds off", `ID:77 TTL:99 grantedTTL:100`, `ID:77 TTL:97 grantedTTL:100`, false},
		{"granted TTL off by one", `ID:77 TTL:99 grantedTTL:100`, `ID:77 TTL:99 grantedTTL:101`, false},
		{"TTL of an unknown lease", `ID:999 TTL:-1`, `ID:999 TTL:0`, false},
		{"order of a lease's keys", `keys:"L1" keys:"L2"`, `keys:"L2" keys:"L1"`, true},
		{"another key", `keys:"L1" keys:"L2"`, `keys:"L2" keys:"L3"`, false},
		{"hash", `hash:1 compact_revision:4`, `hash:2 compact_revision:4`, false},
		{"ports and member name", `members:{ID:3 name:"g1" peerURLs:"http://127.0.0.1:1"}`, `members:{ID:4 name:"e" peerURLs:"http://127.0.0.1:2"}`, true},
		{"snapshot bytes", `msgs=51 bytes=1613856 mod512=32`, `msgs=2 bytes=544 mod512=32`, true},
		{"snapshot trailer", `msgs=51 bytes=1613856 mod512=32`, `msgs=51 bytes=1613856 mod512=0`, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := same(c.golden, c.answer); got != c.same {
				t.Errorf("same(%q, %q) = %v", c.golden, c.answer, got)
			}
		})
	}
}

func TestAMissingLineIsADifference(t *testing.T) {
	if n := len(compare([]string{"a", "b"}, []string{"a"})); n != 1 {
		t.Errorf("%d differences", n)
	}
}
