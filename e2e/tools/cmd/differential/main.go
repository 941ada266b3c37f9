// Differential asks two fresh single-member servers the same random questions in lock step and
// compares everything that comes back: answers, error codes and texts, headers, watch events.
//
//	differential -a ADDR -b ADDR [-ops 100000] [-seed N] [-v]
//
// -a is a real etcd 3.7.3, -b the server under test. The program starts nothing itself. The
// sequence of operations depends on the seed and on the answers of a, on nothing else, so a seed
// repeats a run. At the first difference it prints both answers and the last operations, exit 1.
//
// What is not compared, because two etcds differ in it too, is listed in normalise.go; what is
// not asked, because etcd's answer depends on the clock, at the generators.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"engram.dev/e2e/tools/internal/endpoint"
)

func main() {
	addrA := flag.String("a", "", "`HOST:PORT` of the real etcd")
	addrB := flag.String("b", "", "`HOST:PORT` of the server under test")
	operations := flag.Int("ops", 100_000, "how many operations")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random sequence")
	verbose := flag.Bool("v", false, "print how many operations of each kind ended with which code")
	flag.Parse()
	if *addrA == "" || *addrB == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}

	fmt.Printf("differential: seed %d\n", *seed)
	started := time.Now()
	d, err := newDuel(*addrA, *addrB, *seed)
	if err == nil {
		err = d.run(*operations)
	}
	if err != nil {
		fmt.Printf("differential: FAILED with seed %d: %v\n", *seed, err)
		os.Exit(1)
	}
	if *verbose {
		for _, outcome := range slices.Sorted(maps.Keys(d.outcomes)) {
			fmt.Printf("%8d %s\n", d.outcomes[outcome], outcome)
		}
	}
	fmt.Printf("differential: %d operations, %d watch events, 0 differences, seed %d, %.1f s\n",
		*operations, d.eventCount, *seed, time.Since(started).Seconds())
}

// dialBoth connects to a and b.
func dialBoth(addrA, addrB string) (both [2]*endpoint.Endpoint, err error) {
	for i, addr := range []string{addrA, addrB} {
		if both[i], err = endpoint.Dial(addr); err != nil {
			return both, err
		}
	}
	return both, nil
}
