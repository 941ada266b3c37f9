package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// loadBatch is the puts a transaction while a store is loaded, to save time.
	loadBatch = 100
	// settle is how long servers are left alone after a load, so that its consequences are not
	// measured with what follows.
	settle = 5 * time.Second
)

// result is a row and what its runs gave.
type result struct {
	row     row
	samples [2][]sample // in the order of bench.sides
	load    string      // the load average when it began
	err     error
}

// measureAll runs the rows, store by store, on both sides.
func (b *bench) measureAll(rows []row) ([]result, error) {
	var results []result
	for _, store := range storeOrder {
		var own []row
		for _, r := range rows {
			if r.store == store {
				own = append(own, r)
			}
		}
		if len(own) == 0 {
			continue
		}
		more, err := b.measureStore(store, own)
		results = append(results, more...)
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

func (b *bench) measureStore(store string, rows []row) ([]result, error) {
	var servers [2]*server
	defer func() {
		for _, s := range servers {
			if s != nil {
				_ = s.remove() // what is left goes with the work directory
			}
		}
	}()
	for i, side := range b.sides {
		make, start := b.newServer, (*server).start
		if store == storeThree {
			make, start = b.newCluster, b.startCluster
		}
		s, err := make(side, strings.ReplaceAll(store, " ", "-"))
		if err != nil {
			return nil, err
		}
		servers[i] = s
		if store == storeNone {
			continue
		}
		if err := start(s); err != nil {
			return nil, err
		}
		b.say("loading %s: %s", s.name, store)
		if err := b.fill(s, store); err != nil {
			return nil, err
		}
		if store == storeUsers {
			if err := b.makeUsers(s); err != nil {
				return nil, err
			}
		}
	}
	if store != storeNone {
		b.pause(settle)
	}
	var results []result
	for _, r := range rows {
		if b.ctx.Err() != nil {
			return results, b.ctx.Err()
		}
		result := b.measureRow(r, servers)
		results = append(results, result)
		if result.err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", r.name, result.err)
		}
	}
	return results, nil
}

// fill loads a store: every key once, in an order unlike key order.
func (b *bench) fill(s *server, store string) error {
	keys, valueBytes := b.sizes.keys, 1024
	switch store {
	case storeSmall:
		valueBytes = 256
	case storeMany:
		keys, valueBytes = b.sizes.manyKeys, 256
	}
	var err error
	s.filled, err = b.load(s, offered{"load"}.with("-keys", keys, "-value-bytes", valueBytes,
		"-batch", loadBatch, "-conns", 4, "-callers", 16), false)
	return err
}

// userAndPassword is who calls where authentication is on; a role with two ranges says what they may.
const userAndPassword = "alice:pw"

// makeUsers turns authentication on.
func (b *bench) makeUsers(s *server) error {
	for _, line := range []string{
		"user add root:pw", "user grant-role root root", "user add " + userAndPassword, "role add r",
		"role grant-permission r read 0 1", "role grant-permission r readwrite a --from-key",
		"role grant-permission r readwrite / 0", "user grant-role alice r", "auth enable",
	} {
		if _, err := b.etcdctl(s, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// measureRow alternates the sides: A B, B A, A B.
func (b *bench) measureRow(r row, servers [2]*server) result {
	result := result{row: r, load: loadAverage()}
	runs := b.sizes.runs
	if r.once {
		runs = 1
	}
	for run := range runs {
		for turn := range servers {
			i := (run + turn) % len(servers)
			started := time.Now()
			sample, err := r.measure(b, servers[i])
			if err != nil {
				result.err = err
				return result
			}
			result.samples[i] = append(result.samples[i], sample)
			b.say("%-18s %-7s %10s %s  (%.0f s) %s", r.name, servers[i].name, sample.text(), r.unit,
				time.Since(started).Seconds(), sample.note)
		}
	}
	return result
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%4.0f s  %s\n", time.Since(b.started).Seconds(), fmt.Sprintf(format, args...))
}

// pause sleeps, but not longer than the run lives.
func (b *bench) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.ctx.Done():
	}
}

// perCall measures the server's CPU a call (a watch: an event).
func (b *bench) perCall(s *server, o offered) (sample, error) {
	l, err := b.load(s, o, false)
	if err != nil {
		return sample{}, err
	}
	return cpuPerCall(l, ""), nil
}

// perExpensiveCall makes as many calls as cost the server about sizes.cpuSeconds. How many that is
// is found once a row and side.
func (b *bench) perExpensiveCall(name string, s *server, o offered) (sample, error) {
	key := name + s.name
	if b.counts[key] == 0 {
		count, err := b.countFor(s, o)
		if err != nil {
			return sample{}, err
		}
		b.counts[key] = count
	}
	l, err := b.load(s, o.with("-total", b.counts[key], "-warmup", 1), false)
	if err != nil {
		return sample{}, err
	}
	return cpuPerCall(l, fmt.Sprintf("%d calls", l.Calls)), nil
}

// countFor tries ten times as many calls until the server's clock sees them.
func (b *bench) countFor(s *server, o offered) (int, error) {
	const enough = float64(tellingSteps) / ticksPerSecond
	for calls := 10; calls < expensiveCallsMax; calls *= 10 {
		l, err := b.load(s, o.with("-total", calls, "-warmup", 1), false)
		if err != nil {
			return 0, err
		}
		if l.Server.CPUSeconds >= enough {
			each := l.Server.CPUSeconds / float64(calls)
			return min(max(int(b.sizes.cpuSeconds/each), 3), expensiveCallsMax), nil
		}
	}
	return expensiveCallsMax, nil
}

func measureBinary(b *bench, s *server) (sample, error) {
	info, err := os.Stat(s.binary)
	if err != nil {
		return sample{}, err
	}
	stripped := filepath.Join(b.work, "stripped")
	note := "strip is not installed"
	if exec.CommandContext(b.ctx, "strip", "-o", stripped, s.binary).Run() == nil {
		if small, err := os.Stat(stripped); err == nil {
			note = fmt.Sprintf("%.1f MB stripped", float64(small.Size())/1e6)
		}
	}
	return sample{value: float64(info.Size()) / 1e6, note: note}, nil
}

func measureRSS(_ *bench, s *server) (sample, error) {
	total, err := s.memoryMB("VmRSS")
	if err != nil {
		return sample{}, err
	}
	anonymous, err := s.memoryMB("RssAnon")
	return sample{value: total, note: fmt.Sprintf("%.0f MB anonymous, the rest are mapped files", anonymous)}, err
}

// measureFill tells what loading the store took, which is over by now.
func measureFill(_ *bench, s *server) (sample, error) {
	return sample{value: s.filled.Server.CPUSeconds, load: s.filled, note: fmt.Sprintf("%.1f s", s.filled.Seconds)}, nil
}

func measureIdle(b *bench, s *server) (sample, error) {
	before, err := s.cpuSeconds()
	if err != nil {
		return sample{}, err
	}
	b.pause(time.Duration(b.sizes.idle) * time.Second)
	after, err := s.cpuSeconds()
	return sample{value: (after - before) / float64(b.sizes.idle) * 100, note: fmt.Sprintf("over %d s", b.sizes.idle)}, err
}

// measureHalfPeak offers puts in an open loop. The rate is the same for both sides.
func measureHalfPeak(b *bench, s *server) (sample, error) {
	put := b.onKB(offered{"put"}.with("-conns", 64, "-callers", 64))
	if b.peak == 0 {
		// The first run is the real etcd's.
		l, err := b.load(s, put.with("-total", b.sizes.calls), false)
		if err != nil {
			return sample{}, err
		}
		b.peak = l.Rate
	}
	rate := b.peak / 2
	l, err := b.load(s, put.with("-rate", rate, "-total", int(rate)*b.sizes.steady), false)
	if err != nil {
		return sample{}, err
	}
	return sample{value: l.P99, load: l, note: fmt.Sprintf("%.0f puts/s offered", rate)}, nil
}

// measureOneCaller is what a caller alone waits: the way through the server, with nothing to share it.
func measureOneCaller(b *bench, s *server) (sample, error) {
	l, err := b.load(s, b.onKB(offered{"put"}.with("-conns", 1, "-callers", 1, "-total", b.sizes.calls/8)), false)
	if err != nil {
		return sample{}, err
	}
	return sample{value: l.P50, load: l, note: fmt.Sprintf("%.0f µs CPU", l.Server.CPUMicrosPerOp)}, nil
}

// measureDisk runs on a server of its own, which it removes.
func measureDisk(b *bench, s *server) (sample, error) {
	if err := s.start(); err != nil {
		return sample{}, err
	}
	defer s.kill()
	if err := b.fill(s, storeKB); err != nil {
		return sample{}, err
	}
	for range b.sizes.updateRounds {
		put := b.onKB(offered{"put"}.with("-conns", 16, "-callers", 256, "-total", b.sizes.updates))
		if _, err := b.load(s, put, false); err != nil {
			return sample{}, err
		}
		if err := b.compactAll(s); err != nil {
			return sample{}, err
		}
	}
	b.pause(2 * settle)
	all, store, err := s.diskMB()
	return sample{value: store, note: fmt.Sprintf("%.0f MB with the log", all)}, err
}

func (b *bench) compactAll(s *server) error {
	revision, err := b.revision(s)
	if err != nil {
		return err
	}
	_, err = b.etcdctl(s, "compact", "--physical", fmt.Sprint(revision))
	return err
}

func measureSnapshot(b *bench, s *server) (sample, error) {
	path := filepath.Join(s.dir, "snapshot.db")
	defer os.Remove(path)
	before, err := s.cpuSeconds()
	if err != nil {
		return sample{}, err
	}
	resident, err := s.memoryMB("RssAnon")
	if err != nil {
		return sample{}, err
	}
	started := time.Now()
	if _, err := b.etcdctl(s, "snapshot", "save", path); err != nil {
		return sample{}, err
	}
	took := time.Since(started)
	after, err := s.cpuSeconds()
	if err != nil {
		return sample{}, err
	}
	grown, err := s.memoryMB("RssAnon")
	if err != nil {
		return sample{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return sample{}, err
	}
	note := fmt.Sprintf("%.0f MB in %.1f s, anonymous memory %+.0f MB", float64(info.Size())/1e6, took.Seconds(), grown-resident)
	return sample{value: after - before, note: note}, nil
}

func measureRestart(_ *bench, s *server) (sample, error) {
	s.kill()
	started := time.Now()
	if err := s.start(); err != nil {
		return sample{}, err
	}
	took := time.Since(started).Seconds()
	cpu, err := s.cpuSeconds()
	return sample{value: took, note: fmt.Sprintf("%.1f s CPU", cpu)}, err
}

func measureDefrag(b *bench, s *server) (sample, error) {
	return b.disturbed(s, func() error {
		_, err := b.etcdctl(s, "defrag")
		return err
	})
}

// measureCompaction first makes as many revisions as there are keys.
func measureCompaction(b *bench, s *server) (sample, error) {
	if err := b.fill(s, storeMany); err != nil {
		return sample{}, err
	}
	b.pause(settle)
	return b.disturbed(s, func() error { return b.compactAll(s) })
}

// disturbed offers puts at a steady rate, alone and then while something else is done, and
// returns how many times higher their p99 is then.
func (b *bench) disturbed(s *server, disturbance func() error) (sample, error) {
	steady := offered{"put"}.with("-conns", 16, "-callers", 64, "-keys", b.sizes.manyKeys, "-value-bytes", 256,
		"-rate", steadyRate, "-total", steadyRate*b.sizes.steady)
	alone, err := b.load(s, steady, false)
	if err != nil {
		return sample{}, err
	}
	cmd := b.loader(s, steady)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	b.pause(time.Second)
	started := time.Now()
	disturbed := disturbance()
	took := time.Since(started)
	if err := cmd.Wait(); err != nil {
		return sample{}, err
	}
	if disturbed != nil {
		return sample{}, disturbed
	}
	// A server that stops for seconds may let puts time out: that is what the row is about.
	during, err := decodeLoad(s, steady, out.Bytes(), true)
	if err != nil {
		return sample{}, err
	}
	note := fmt.Sprintf("took %.1f s; p99 %s → %s ms, worst put %.0f ms, %d failed, CPU %.1f → %.1f s",
		took.Seconds(), figure(alone.P99), figure(during.P99), during.Max, during.Errors,
		alone.Server.CPUSeconds, during.Server.CPUSeconds)
	return sample{value: during.P99 / alone.P99, load: during, note: note}, nil
}

// median of the samples by their value.
func median(samples []sample) sample {
	sorted := slices.SortedFunc(slices.Values(samples), func(x, y sample) int {
		switch {
		case x.value < y.value:
			return -1
		case x.value > y.value:
			return 1
		}
		return 0
	})
	return sorted[len(sorted)/2]
}
