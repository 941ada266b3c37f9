package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Keys that the stores of the curves hold: each is loaded into a fresh server of either side.
var (
	fullGrowth  = []int{10_000, 100_000, 1_000_000, 5_000_000}
	quickGrowth = []int{10_000, 100_000}
)

// curve is a figure that is measured at each size.
type curve struct {
	name, title, unit string
	measure           func(b *bench, s *server, keys int) (sample, error)
}

// point is what one size gave of a curve, in the order of bench.sides.
type point struct {
	keys    int
	samples [2]sample
}

// curves are measured in this order: the restart is last, since it costs the server its warmth.
func curves() []curve {
	cheap := func(o offered) func(*bench, *server, int) (sample, error) {
		return func(b *bench, s *server, keys int) (sample, error) {
			return b.perCall(s, grown(o, keys).with("-conns", 1, "-callers", 64, "-total", b.sizes.calls))
		}
	}
	expensive := func(name string, o offered) func(*bench, *server, int) (sample, error) {
		return func(b *bench, s *server, keys int) (sample, error) {
			return b.perExpensiveCall(fmt.Sprintf("growth %s %d", name, keys), s, grown(o, keys).with("-conns", 1, "-callers", 1))
		}
	}
	return []curve{
		{"load", "load, 100 puts a transaction, by key", "µs CPU", func(b *bench, s *server, keys int) (sample, error) {
			l, err := b.load(s, grown(offered{"load"}, keys).with("-batch", loadBatch, "-conns", 4, "-callers", 16), false)
			if err != nil {
				return sample{}, err
			}
			b.pause(settle)
			return sample{value: l.Server.CPUMicrosPerOp, load: l, note: fmt.Sprintf("%.1f s", l.Seconds)}, nil
		}},
		{"rss", "resident memory after loading", "MB", func(b *bench, s *server, _ int) (sample, error) { return measureRSS(b, s) }},
		{"put", "put 256 B, 1 × 64", "µs CPU", cheap(offered{"put"})},
		{"get", "get, linearizable, 1 × 64", "µs CPU", cheap(offered{"get"})},
		{"page", "list page of 500, first page", "µs CPU", expensive("page", offered{"list"})},
		{"count", "count of all keys", "µs CPU", expensive("count", offered{"count"})},
		{"restart", "kill -9, restart, to the first linearizable read", "s", func(b *bench, s *server, _ int) (sample, error) {
			return measureRestart(b, s)
		}},
	}
}

// grown is a load on a store of so many keys of 64 B + 256 B.
func grown(o offered, keys int) offered { return o.with("-keys", keys, "-value-bytes", 256) }

// grow measures all curves and writes them, as a table and as drawings of the same figures beside it.
func (b *bench) grow() error {
	sizes := fullGrowth
	if b.quick {
		sizes = quickGrowth
	}
	all := curves()
	points := make([][]point, len(all))
	for _, keys := range sizes {
		for i := range all {
			points[i] = append(points[i], point{keys: keys})
		}
		for side := range b.sides {
			if err := b.growSide(all, points, side, keys); err != nil {
				return err
			}
		}
	}
	return b.writeGrowth(all, points)
}

// growSide measures every curve on one fresh server.
func (b *bench) growSide(all []curve, points [][]point, side, keys int) error {
	s, err := b.newServer(b.sides[side], fmt.Sprintf("growth-%d", keys))
	if err != nil {
		return err
	}
	defer s.remove()
	if err := s.start(); err != nil {
		return err
	}
	for i, c := range all {
		var samples []sample
		for range b.growthRuns(c) {
			started := time.Now()
			measured, err := c.measure(b, s, keys)
			if err != nil {
				return fmt.Errorf("%s of %s keys: %w", c.name, short(keys), err)
			}
			samples = append(samples, measured)
			b.say("growth %-8s %-5s %-7s %10s %s  (%.0f s) %s", c.name, short(keys), s.name, measured.text(), c.unit,
				time.Since(started).Seconds(), measured.note)
		}
		points[i][len(points[i])-1].samples[side] = median(samples)
	}
	return nil
}

// growthRuns: a store is loaded once.
func (b *bench) growthRuns(c curve) int {
	if c.name == "load" || c.name == "rss" {
		return 1
	}
	return b.sizes.runs
}

// writeGrowth writes GROWTH.md and growth-NAME.svg beside the results.
func (b *bench) writeGrowth(all []curve, points [][]point) error {
	path := b.out
	switch {
	case path == "" && b.quick:
		path = filepath.Join(b.dir, "growth.md")
	case path == "":
		path = filepath.Join(filepath.Dir(b.results), "GROWTH.md")
	}
	var t strings.Builder
	fmt.Fprintf(&t, "# Growth: what the size of the store does\n\n%s\n", method)
	fmt.Fprintf(&t, "Every size is a fresh server with that many keys of 64 B and values of 256 B. *≤* and *≥* stand where so little\n")
	fmt.Fprintf(&t, "was used that the clock's steps of 10 ms do not tell more.\n\n")
	b.describe(&t)
	fmt.Fprintf(&t, "\n| | unit | keys | etcd | Engram | etcd ÷ Engram |\n|---|---|---:|---:|---:|---:|\n")
	stem := strings.TrimSuffix(path, ".md")
	for i, c := range all {
		for _, p := range points[i] {
			fmt.Fprintf(&t, "| %s | %s | %s | %s | %s | %s |\n", c.title, c.unit, short(p.keys),
				p.samples[0].text(), p.samples[1].text(), ratio(p.samples[0], p.samples[1]))
		}
	}
	fmt.Fprintln(&t)
	for i, c := range all {
		drawing := fmt.Sprintf("%s-%s.svg", stem, c.name)
		if err := draw(drawing, c, points[i], [2]string{b.sides[0].name, b.sides[1].name}); err != nil {
			return err
		}
		fmt.Fprintf(&t, "![%s](%s)\n", c.title, filepath.Base(drawing))
	}
	fmt.Fprintf(&t, "\n## Notes of the median runs\n\n| | keys | side | note |\n|---|---:|---|---|\n")
	for i, c := range all {
		for _, p := range points[i] {
			for side, measured := range p.samples {
				if note := measured.note; note != "" {
					fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", c.name, short(p.keys), b.sides[side].name, note)
				}
			}
		}
	}
	if err := os.WriteFile(path, []byte(t.String()), 0o644); err != nil {
		return err
	}
	fmt.Print(t.String())
	fmt.Fprintf(os.Stderr, "written to %s after %s\n", path, time.Since(b.started).Round(time.Second))
	return nil
}

// keysOf are the sizes of a curve's points.
func keysOf(points []point) []int {
	var keys []int
	for _, p := range points {
		keys = append(keys, p.keys)
	}
	return keys
}
