// Command traffic has a cluster bear the traffic of etcd's own robustness tests, and records what its
// clients were told.
//
// Usage: traffic -endpoints ADDR,ADDR,ADDR -profile NAME -report DIR [-lie LIE]
//
// Clients, keys, requests, their rates and watches are those of etcd's suite (go.etcd.io/etcd/tests/v3, the
// version of the etcd that is pinned), and so are their names (see profiles). The cluster has to be
// empty. The traffic goes on until the standard input ends. Then it waits until every observer has seen
// the last revision, writes DIR in the layout that the command referee judges, and prints one JSON object
// with what was done.
//
// Two parts of the suite do not fit a server that is no etcd. It reads what took effect from the members'
// write-ahead logs; here that is taken from what observers saw, one at each member (timeline.go). And it
// compacts whatever there is; here nothing is compacted that no observer has seen (compact.go).
//
// With -lie the clients are told something wrong (liar.go): that the referee finds it is the test of both.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.etcd.io/etcd/tests/v3/robustness/traffic"
)

// A profile of the suite (tests/robustness/scenarios) with its traffic and rates.
type profile struct {
	traffic traffic.Traffic
	rates   *traffic.KeyValue
}

var profiles = map[string]profile{
	"EtcdHighTraffic":         {traffic.EtcdPut, &traffic.KeyValueHigh},
	"EtcdTrafficDeleteLeases": {traffic.EtcdPutDeleteLease, &traffic.KeyValueMedium},
	"KubernetesHighTraffic":   {traffic.Kubernetes, &traffic.KeyValueHigh},
	"KubernetesLowTraffic":    {traffic.Kubernetes, &traffic.KeyValueMedium},
}

func main() {
	addresses := flag.String("endpoints", "", "where clients reach the members, separated by commas")
	name := flag.String("profile", "EtcdTrafficDeleteLeases", "the traffic, as etcd's suite calls it")
	directory := flag.String("report", "", "the directory to write, which is made anew")
	lie := flag.String("lie", "", "tell clients something wrong: "+strings.Join(lieNames(), ", "))
	flag.Parse()
	chosen, known := profiles[*name]
	if !known || *addresses == "" || *directory == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(strings.Split(*addresses, ","), chosen, *directory, *lie); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func run(endpoints []string, chosen profile, directory, lie string) error {
	if lie != "" {
		told, known := lies[lie]
		if !known {
			return fmt.Errorf("no lie is called %q", lie)
		}
		var err error
		if endpoints, err = throughLiars(slices.Clone(endpoints), told); err != nil {
			return err
		}
	}
	recording, err := begin(endpoints, chosen)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	// What was recorded is written whatever comes of the end: it is what a failure is understood by.
	ended := recording.end()
	done, err := recording.write(directory)
	if err := errors.Join(ended, err); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(done)
}
