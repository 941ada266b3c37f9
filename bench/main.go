// Sidebyside runs the same loads on Engram and on the real etcd and writes the table of both.
// run.sh builds what it needs and starts it; README.md says how to read what it writes.
//
// It only starts processes, reads /proc and counts: the load comes from e2e/tools's program load,
// compactions and the like from etcdctl, so that both servers see the clients they see in life.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options is what the flags say.
type options struct {
	tools, engram, etcd  string
	dir, results, out    string
	commit, command      string
	quick, list, growth  bool
	runs, largeGB        int
	wanted               []string
	beforeLoad, fileNote string
}

// bench is one run of everything.
type bench struct {
	options
	ctx     context.Context
	sizes   sizes
	scale   scaleSizes
	work    string // removed at the end
	sides   [2]*side
	counts  map[string]int // calls that a row makes on a side, once they are known
	helds   map[string]*held
	peak    float64 // puts a second that etcd takes in closed loop, once it is known
	started time.Time
}

func main() {
	// Servers die with the thread that started them (Pdeathsig), so that thread has to stay.
	runtime.LockOSThread()
	o := parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	flag.StringVar(&o.tools, "tools", "", "directory of load and etcdctl")
	flag.StringVar(&o.engram, "engram", "", "the server to measure")
	flag.StringVar(&o.etcd, "etcd", "", "the real etcd")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where both keep their data: one file system for both")
	flag.StringVar(&o.results, "results", "", "the file that a full run of all rows writes")
	flag.StringVar(&o.out, "out", "", "write the table here, whatever is run")
	flag.StringVar(&o.commit, "commit", "unknown", "what was built, for the table")
	flag.StringVar(&o.command, "command", "", "what was called, for the table")
	flag.BoolVar(&o.quick, "quick", false, "smaller sizes, one run each: ten minutes, for use while developing")
	flag.BoolVar(&o.growth, "growth", false, "instead of the rows: the same figures on stores of 10 k to 5 M keys, as curves")
	flag.IntVar(&o.largeGB, "large", 0, "instead of the rows: the life of a store of so many GB (etcd's: 8 at most)")
	flag.BoolVar(&o.list, "list", false, "print the rows' names")
	flag.IntVar(&o.runs, "runs", 0, "runs of each row, of which the median counts (3; 1 with -quick)")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: run.sh [flags] [ROW...]: ROW is a row's name or its beginning")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.wanted = flag.Args()
	return o
}

func run(ctx context.Context, o options) error {
	b := &bench{options: o, ctx: ctx, sizes: fullSizes, scale: fullScale, counts: map[string]int{}, helds: map[string]*held{}, started: time.Now()}
	if o.quick {
		b.sizes, b.scale = quickSizes, quickScale
	}
	if o.runs > 0 {
		b.sizes.runs = o.runs
	}
	rows, err := b.chosen()
	if err != nil {
		return err
	}
	if o.list {
		for _, r := range rows {
			fmt.Printf("%-18s %s\n", r.name, r.title)
		}
		return nil
	}
	if b.work, err = os.MkdirTemp(o.dir, "run-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	b.sides = [2]*side{
		// Its default of 2 GiB would end the larger loads.
		{name: "etcd", binary: o.etcd, flags: []string{"--quota-backend-bytes=17179869184"}},
		{name: "Engram", binary: o.engram},
	}
	if err := b.identify(); err != nil {
		return err
	}
	b.beforeLoad = loadAverage()
	if o.growth {
		return b.grow()
	}
	if o.largeGB > 0 {
		return b.measureLarge()
	}
	results, err := b.measureAll(rows)
	if err != nil && len(results) == 0 {
		return err
	}
	return errors.Join(err, b.write(results, len(rows) == len(b.allRows())))
}

// chosen returns the rows that were asked for.
func (b *bench) chosen() ([]row, error) {
	all := b.allRows()
	if len(b.wanted) == 0 {
		return all, nil
	}
	var rows []row
	used := map[string]bool{}
	for _, r := range all {
		for _, w := range b.wanted {
			if strings.HasPrefix(r.name, w) {
				used[w] = true
				if !slices.ContainsFunc(rows, func(o row) bool { return o.name == r.name }) {
					rows = append(rows, r)
				}
			}
		}
	}
	for _, w := range b.wanted {
		if !used[w] {
			return nil, fmt.Errorf("no row begins with %q: --list shows them (flags come before rows)", w)
		}
	}
	return rows, nil
}

// write puts the table where it belongs: RESULTS.md is only ever a full run of everything.
func (b *bench) write(results []result, complete bool) error {
	text := b.report(results)
	path := b.out
	if path == "" && complete && !b.quick {
		path = b.results
	}
	if path == "" {
		path = filepath.Join(b.dir, "results.md")
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Print(text)
	fmt.Fprintf(os.Stderr, "written to %s after %s\n", path, time.Since(b.started).Round(time.Second))
	for _, r := range results {
		if r.err != nil {
			return fmt.Errorf("%s: %w", r.row.name, r.err)
		}
	}
	return nil
}
