// Load puts one kind of load on a server and prints one JSON object about it.
//
//	load WORKLOAD -addr HOST:PORT [flags]
//
// The workloads:
//
//	load             write every key once, in an order unlike key order
//	put              overwrite random keys
//	txn              what the apiserver writes: if mod revision = N then put else get
//	get              linearizable read of random keys
//	list             one page of -page keys; -position first, middle or last; -pinned
//	list-all         all pages, as the apiserver reads them; an operation is a page
//	count            count of all keys
//	rangestream      all keys by RangeStream; an operation is a stream
//	range-all        all keys in one Range
//	watch            -streams × -watchers see every put; an operation is an event delivered
//	lease-keepalive  one keepalive; with -one-stream on the caller's stream, else on a new one
//	batch-put        overwrite -batch random keys in one transaction
//	connections      open a connection, make one call, keep it
//	watches          create a watcher of a key of its own, on the caller's stream, keep it
//	leases           grant a lease, keep it
//	kubernetes       what an apiserver of -nodes nodes writes, reads and watches, for -seconds
//
// What is kept is held for -hold after the last one, in which nobody asks for anything: the server's memory with it
// and its CPU meanwhile are told too.
//
// All but load and the last four expect the keys that load wrote with the same -keys and -key-bytes. Without -rate
// each caller sends when it has its answer (closed loop); with it, operations are due at fixed
// times and latency counts from then (open loop), so a stalled server is not spared. Callers use
// the raw stubs on grpc-go connections and send the header that clientv3 sends. With -server-pid
// the object also says what the server used.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// warmupDefault stands for a number that depends on -total.
const warmupDefault = -1

// config is what the flags say.
type config struct {
	addr       string
	conns      int
	callers    int
	total      int
	warmup     int
	rate       float64
	onset      time.Duration
	keyBytes   int
	valueBytes int
	keys       int
	batch      int
	page       int
	position   string
	pinned     bool
	behind     int
	conflicts  float64
	streams    int
	watchers   int
	oneStream  bool
	hold       time.Duration
	nodes      int
	seconds    int
	timeout    time.Duration
	serverPID  int
	user       string
	seed       uint64
}

func main() {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		usage()
	}
	workload, known := workloads[os.Args[1]]
	if !known {
		usage()
	}
	c, err := parse(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	result, err := measure(os.Args[1], workload, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: load WORKLOAD -addr HOST:PORT [flags]; load WORKLOAD -h shows the flags\nworkloads: %s\n",
		strings.Join(slices.Sorted(maps.Keys(workloads)), " "))
	os.Exit(2)
}

func parse(workload string, args []string) (config, error) {
	var c config
	f := flag.NewFlagSet("load "+workload, flag.ExitOnError)
	f.StringVar(&c.addr, "addr", "127.0.0.1:2379", "server")
	f.IntVar(&c.conns, "conns", 1, "connections")
	f.IntVar(&c.callers, "callers", 64, "callers, spread over the connections")
	f.IntVar(&c.total, "total", 20_000, "operations to measure (watch: puts; list-all: walks)")
	f.IntVar(&c.warmup, "warmup", warmupDefault, "operations before those, not measured; the\ndefault is a twentieth of -total, at most 1000; none where the store is written or read as a whole")
	f.Float64Var(&c.rate, "rate", 0, "operations a second to offer; 0 is closed loop")
	f.DurationVar(&c.onset, "onset", 0, "with -rate: what is due in the first so long is told of apart (onset_p99_ms)")
	f.IntVar(&c.keyBytes, "key-bytes", 64, "length of a key")
	f.IntVar(&c.valueBytes, "value-bytes", 1024, "length of a value, random bytes")
	f.IntVar(&c.keys, "keys", 100_000, "keys in the store")
	f.IntVar(&c.batch, "batch", 1, "load, batch-put: puts a transaction")
	f.IntVar(&c.page, "page", 500, "list, list-all: keys a page")
	f.StringVar(&c.position, "position", "first", "list: which page: first, middle or last")
	f.BoolVar(&c.pinned, "pinned", false, "list: read at an older revision instead of the head")
	f.IntVar(&c.behind, "behind", 1000, "list -pinned: how many writes older")
	f.Float64Var(&c.conflicts, "conflicts", 0, "txn: percent that compare with a wrong revision")
	f.IntVar(&c.streams, "streams", 100, "watch: streams, spread over the connections")
	f.IntVar(&c.watchers, "watchers", 1, "watch: watchers a stream")
	f.BoolVar(&c.oneStream, "one-stream", false, "lease-keepalive: one stream a caller")
	f.DurationVar(&c.hold, "hold", 10*time.Second, "connections, watches, leases: how long what was made is kept")
	f.IntVar(&c.nodes, "nodes", 5000, "kubernetes: nodes of the cluster")
	f.IntVar(&c.seconds, "seconds", 60, "kubernetes: how long")
	f.DurationVar(&c.timeout, "timeout", 30*time.Minute, "give up after this time")
	f.IntVar(&c.serverPID, "server-pid", 0, "measure CPU and memory of this process")
	f.StringVar(&c.user, "user", "", "NAME:PASSWORD: all callers are that user, with one token")
	f.Uint64Var(&c.seed, "seed", 1, "seed of keys and values")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if c.warmup == warmupDefault {
		c.warmup = min(c.total/20, 1000)
	}
	return c, c.validate()
}

func (c config) validate() error {
	counts := map[string]int{
		"conns": c.conns, "callers": c.callers, "total": c.total, "value-bytes": c.valueBytes,
		"keys": c.keys, "batch": c.batch, "page": c.page, "streams": c.streams, "watchers": c.watchers,
		"nodes": c.nodes, "seconds": c.seconds,
	}
	for name, n := range counts {
		if n < 1 {
			return fmt.Errorf("-%s is %d, must be at least 1", name, n)
		}
	}
	switch {
	case c.keyBytes < len(prefix)+keyDigits:
		return fmt.Errorf("-key-bytes is %d, must be at least %d", c.keyBytes, len(prefix)+keyDigits)
	case !slices.Contains([]string{"first", "middle", "last"}, c.position):
		return fmt.Errorf("-position is %q, must be first, middle or last", c.position)
	case c.valueBytes < timestampBytes:
		return fmt.Errorf("-value-bytes is %d, must be at least %d", c.valueBytes, timestampBytes)
	}
	return nil
}
