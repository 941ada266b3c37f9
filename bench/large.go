package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// largeValue is the value of a large store's keys: about a Kubernetes object.
	largeValue = 4096
	// largeEtcd is what etcd advises at most, in GB.
	largeEtcd = 8
	// largeOverwritten is the part of the keys that is written anew before the store is compacted.
	largeOverwritten = 10
	// promoteWait is how often it is tried to give a new member its vote, and how long.
	promoteWait, promoteLimit = 100 * time.Millisecond, 30 * time.Minute
)

// told is a line of what a large store costs.
type told struct {
	what, unit string
	value      float64
	note       string
}

// large is one side with its large store.
type large struct {
	b    *bench
	s    *server
	keys int
	told []told
}

// measureLarge takes each side through the life of a large store, one after the other: their disks would not
// both fit. etcd gets no more than it advises.
func (b *bench) measureLarge() error {
	var all [2]*large
	for i, side := range b.sides {
		gb := b.largeGB
		if i == 0 {
			gb = min(gb, largeEtcd)
		}
		l, err := b.largeSide(side, gb)
		all[i] = l
		if err != nil {
			l.tell("failed: "+strings.ReplaceAll(err.Error(), "\n", " "), "", 0, "")
		}
	}
	return b.writeLarge(all)
}

func (b *bench) largeSide(side *side, gb int) (*large, error) {
	l := &large{b: b, keys: gb * 1_000_000_000 / (largeValue + 64)}
	quota := *side
	// Twice the data: nothing here is about the quota.
	quota.flags = append(append([]string{}, side.flags...), fmt.Sprintf("--quota-backend-bytes=%d", 2*(gb+1)<<30))
	s, err := b.newServer(&quota, "large")
	if err != nil {
		return l, err
	}
	l.s = s
	defer func() { _ = s.remove() }() // what is left goes with the work directory
	if err := s.start(); err != nil {
		return l, err
	}
	for _, step := range []func() error{l.load, l.serve, l.compact, l.snapshot, l.restart, l.replace} {
		if err := step(); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l *large) tell(what, unit string, value float64, note string) {
	l.told = append(l.told, told{what, unit, value, note})
	name := "etcd"
	if l.s != nil {
		name = l.s.name
	}
	l.b.say("large %-7s %-55s %10s %s %s", name, what, figure(value), unit, note)
}

func (l *large) on(o offered) offered {
	return o.with("-keys", l.keys, "-value-bytes", largeValue)
}

// room tells memory and disk as they are now.
func (l *large) room(when string) error {
	resident, err := l.s.memoryMB("VmRSS")
	if err != nil {
		return err
	}
	anonymous, err := l.s.memoryMB("RssAnon")
	if err != nil {
		return err
	}
	all, store, err := l.s.diskMB()
	if err != nil {
		return err
	}
	l.tell("resident memory "+when, "MB", resident,
		fmt.Sprintf("%.0f MB anonymous, %.0f bytes a key", anonymous, anonymous*(1<<20)/float64(l.keys)))
	l.tell("disk "+when, "MB", all, fmt.Sprintf("%.0f MB without the log", store))
	return nil
}

func (l *large) load() error {
	loaded, err := l.b.load(l.s, l.on(offered{"load"}).with("-batch", loadBatch, "-conns", 4, "-callers", 16), false)
	if err != nil {
		return err
	}
	l.tell(fmt.Sprintf("loading %d keys, %.1f GB", l.keys, float64(l.keys)*(largeValue+64)/1e9), "s", loaded.Seconds,
		fmt.Sprintf("%.0f s CPU, %.0f MB anonymous at most", loaded.Server.CPUSeconds, loaded.Server.AnonPeakKB/1024))
	l.b.pause(2 * settle)
	return l.room("after loading")
}

func (l *large) serve() error {
	one := []any{"-conns", 1, "-callers", 64, "-total", l.b.sizes.calls / 2}
	for _, o := range []offered{offered{"put"}.with(one...), offered{"get"}.with(one...)} {
		loaded, err := l.b.load(l.s, l.on(o), false)
		if err != nil {
			return err
		}
		l.tell(o[0]+", 1 × 64", "µs CPU", loaded.Server.CPUMicrosPerOp,
			fmt.Sprintf("p50 %s, p99 %s ms", figure(loaded.P50), figure(loaded.P99)))
	}
	for _, o := range []offered{{"list", "-total", "20"}, {"count", "-total", "20"}} {
		loaded, err := l.b.load(l.s, l.on(o).with("-conns", 1, "-callers", 1), false)
		if err != nil {
			return err
		}
		l.tell(map[string]string{"list": "page of 500", "count": "count of all"}[o[0]], "ms", loaded.P50, "")
	}
	return nil
}

func (l *large) compact() error {
	if _, err := l.b.load(l.s, l.on(offered{"put"}).with("-conns", 16, "-callers", 64, "-total", l.keys/largeOverwritten), false); err != nil {
		return err
	}
	before, err := l.s.cpuSeconds()
	if err != nil {
		return err
	}
	started := time.Now()
	if err := l.b.compactAll(l.s); err != nil {
		return err
	}
	took := time.Since(started)
	after, err := l.s.cpuSeconds()
	if err != nil {
		return err
	}
	l.tell(fmt.Sprintf("compaction after %d more puts", l.keys/largeOverwritten), "s", took.Seconds(), fmt.Sprintf("%.1f s CPU", after-before))
	l.b.pause(4 * settle)
	return l.room("after compaction")
}

func (l *large) snapshot() error {
	taken, err := measureSnapshot(l.b, l.s)
	if err != nil {
		return err
	}
	l.tell("snapshot save", "s CPU", taken.value, taken.note)
	return nil
}

func (l *large) restart() error {
	taken, err := measureRestart(l.b, l.s)
	if err != nil {
		return err
	}
	l.tell("kill -9, restart, to the first linearizable read", "s", taken.value, taken.note)
	return l.room("after the restart")
}

// replace adds a member, which gets all of it, and gives it a vote.
func (l *large) replace() error {
	joining, err := l.b.newServer(l.s.side, "large-joining")
	if err != nil {
		return err
	}
	defer func() { _ = joining.remove() }() // what is left goes with the work directory
	joining.member = "joining"
	joining.initial = l.s.initial + ",joining=http://" + joining.peer
	joining.joins = true
	text, err := l.b.etcdctl(l.s, "member", "add", joining.member, "--peer-urls=http://"+joining.peer, "--learner")
	if err != nil {
		return err
	}
	// "Member 3c8f… added to cluster …"
	words := strings.Fields(text)
	if len(words) < 2 {
		return fmt.Errorf("etcdctl member add: %q", text)
	}
	started := time.Now()
	if err := joining.launch(); err != nil {
		return err
	}
	for {
		_, err := l.b.etcdctl(l.s, "member", "promote", words[1])
		if err == nil {
			break
		}
		if time.Since(started) > promoteLimit || l.b.ctx.Err() != nil || joining.ended() {
			return fmt.Errorf("no vote for the new member: %w; the end of its log:\n%s", err, joining.logTail())
		}
		l.b.pause(promoteWait)
	}
	took := time.Since(started).Seconds()
	peak, err := joining.memoryMB("VmHWM")
	if err != nil {
		return err
	}
	sender, err := l.s.memoryMB("RssAnon")
	if err != nil {
		return err
	}
	l.tell("a new member has all of it and a vote", "s", took,
		fmt.Sprintf("%.0f MB resident at most there; %.0f MB anonymous at the one that sent", peak, sender))
	return nil
}

func (b *bench) writeLarge(all [2]*large) error {
	path := b.out
	if path == "" {
		path = filepath.Join(b.dir, "large.md")
	}
	var t strings.Builder
	fmt.Fprintf(&t, "# A large store\n\nKeys of 64 B and values of %d B, %d GB for Engram, %d for etcd, each alone on the machine and at its turn.\n\n",
		largeValue, b.largeGB, min(b.largeGB, largeEtcd))
	b.describe(&t)
	for i, l := range all {
		fmt.Fprintf(&t, "\n## %s\n\n| | unit | | |\n|---|---|---:|---|\n", b.sides[i].name)
		for _, line := range l.told {
			fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", line.what, line.unit, figure(line.value), line.note)
		}
	}
	if err := os.WriteFile(path, []byte(t.String()), 0o644); err != nil {
		return err
	}
	fmt.Print(t.String())
	for i, l := range all {
		for _, line := range l.told {
			if strings.HasPrefix(line.what, "failed") {
				return fmt.Errorf("%s %s", b.sides[i].name, line.what)
			}
		}
	}
	return nil
}
