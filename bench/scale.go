package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// scaleSizes is how much the rows of scale make.
type scaleSizes struct {
	connections, watches, leases int
	nodes, seconds               int // of the Kubernetes cluster that is played
	overloaded                   int // seconds
}

var (
	fullScale  = scaleSizes{connections: 10_000, watches: 100_000, leases: 1_000_000, nodes: 5_000, seconds: 60, overloaded: 20}
	quickScale = scaleSizes{connections: 5_000, watches: 50_000, leases: 100_000, nodes: 5_000, seconds: 20, overloaded: 14}
)

// holdFor is how long connections, watches and leases are kept while nobody asks for anything.
const holdFor = 10 * time.Second

// held is what one server was like with many of something.
type held struct {
	load *loaded
	// restart and after: seconds that a start took with them, and what was resident then; leases only.
	restart, after float64
	// busy is what a put cost beside them; watches only.
	busy *loaded
}

// scaleRows are what many clients cost while they do little, and what a large Kubernetes asks.
func (b *bench) scaleRows() []row {
	third := func() *goal { return fractionOf(1.0/3, "1/3") }
	with := func(what, name, title, unit string, goal *goal, figure func(h *held) sample) row {
		return row{
			name: "scale-" + what + "-" + name, title: title, unit: unit, store: storeNone, once: true, goal: goal,
			measure: func(b *bench, s *server) (sample, error) {
				h, err := b.holding(s, what)
				if err != nil {
					return sample{}, err
				}
				return figure(h), nil
			},
		}
	}
	resident := func(h *held) sample {
		before, after := h.load.Server.RSSBeforeKB/1024, h.load.Server.RSSHeldKB/1024
		return sample{value: after, note: fmt.Sprintf("%.0f MB before; %.1f KB each", before, (after-before)*1024/float64(h.load.Ops))}
	}
	making := func(h *held) sample {
		return cpuPerCall(h.load, fmt.Sprintf("all in %.1f s", h.load.Seconds))
	}
	idle := func(h *held) sample {
		return sample{value: h.load.Server.HeldPercent, note: fmt.Sprintf("over %s", holdFor)}
	}
	sizes := b.scale
	connections, watches, leases := short(sizes.connections), short(sizes.watches), short(sizes.leases)
	return []row{
		with("connections", "rss", connections+" connections, idle after a call each: resident memory", "MB", third(), resident),
		with("connections", "cpu", connections+" connections: to open one and answer its first call", "µs CPU", third(), making),
		with("connections", "idle", connections+" connections, idle", "% of a core", nil, idle),
		with("watches", "rss", watches+" watches of a key each, on 100 connections: resident memory", "MB", third(), resident),
		with("watches", "cpu", watches+" watches: to create one", "µs CPU", third(), making),
		with("watches", "idle", watches+" watches, idle", "% of a core", nil, idle),
		with("watches", "put", watches+" watches of other keys: put 1 KB, 1 × 64", "µs CPU", third(), func(h *held) sample {
			return cpuPerCall(h.busy, "")
		}),
		with("leases", "rss", leases+" leases granted: resident memory", "MB", third(), resident),
		with("leases", "cpu", leases+" leases: to grant one, 16 × 256", "µs CPU", third(), making),
		with("leases", "idle", leases+" leases, idle", "% of a core", nil, idle),
		with("leases", "restart", leases+" leases: kill -9, restart, to the first linearizable read", "s", third(), func(h *held) sample {
			return sample{value: h.restart, note: fmt.Sprintf("%.0f MB resident then", h.after)}
		}),
		{
			name: "scale-kubernetes", unit: "% of a core", store: storeNone, goal: fractionOf(0.25, "1/4"), measure: measureKubernetes,
			title: fmt.Sprintf("Kubernetes of %s nodes: node leases, statuses, pods, events; three apiservers' watches", short(sizes.nodes)),
		},
		{
			name: "overload", unit: "×", store: storeNone, once: true, goal: atMost(2, " ×"), measure: measureOverload,
			title: "overload, 0.3 of a core for the server: p99 of transactions admitted at 3 × the sustainable rate, once that is known, ÷ at the sustainable rate",
		},
	}
}

// holding has a server of its own make many of something and keep it; the rows that tell of it share one run.
func (b *bench) holding(like *server, what string) (*held, error) {
	key := what + " " + like.name
	if h := b.helds[key]; h != nil {
		return h, nil
	}
	s, err := b.newServer(like.side, what)
	if err != nil {
		return nil, err
	}
	defer s.remove()
	if err := s.start(); err != nil {
		return nil, err
	}
	b.pause(settle)
	h := &held{}
	load := offered{what}.with("-hold", holdFor)
	switch what {
	case "connections":
		load = load.with("-total", b.scale.connections, "-callers", 64)
	case "watches":
		load = load.with("-total", b.scale.watches, "-conns", 100, "-callers", 100)
	case "leases":
		load = load.with("-total", b.scale.leases, "-conns", 16, "-callers", 256)
	}
	if what == "watches" {
		h.load, h.busy, err = b.holdingWatches(s, load)
	} else {
		h.load, err = b.load(s, load, false)
	}
	if err != nil {
		return nil, err
	}
	if what == "leases" {
		s.kill()
		started := time.Now()
		if err := s.start(); err != nil {
			return nil, err
		}
		h.restart = time.Since(started).Seconds()
		if h.after, err = s.memoryMB("VmRSS"); err != nil {
			return nil, err
		}
	}
	b.helds[key] = h
	return h, nil
}

// holdingWatches keeps the watches a second time, longer, and has others put meanwhile.
func (b *bench) holdingWatches(s *server, load offered) (held, busy *loaded, err error) {
	if held, err = b.load(s, load, false); err != nil {
		return nil, nil, err
	}
	watching := b.loader(s, load.with("-hold", time.Hour))
	if err := watching.Start(); err != nil {
		return nil, nil, err
	}
	defer func() {
		// Killed by its own id; how it ended says nothing.
		_ = watching.Process.Kill()
		_ = watching.Wait()
	}()
	b.pause(time.Duration(2*held.Seconds)*time.Second + 2*settle)
	busy, err = b.load(s, offered{"put"}.with("-conns", 1, "-callers", 64, "-total", b.sizes.calls), false)
	return held, busy, err
}

// measureKubernetes replays at one rate for both, so their CPU can be compared as it is.
func measureKubernetes(b *bench, like *server) (sample, error) {
	s, err := b.newServer(like.side, "kubernetes")
	if err != nil {
		return sample{}, err
	}
	defer s.remove()
	if err := s.start(); err != nil {
		return sample{}, err
	}
	l, err := b.load(s, offered{"kubernetes"}.with("-nodes", b.scale.nodes, "-seconds", b.scale.seconds, "-callers", 256), false)
	if err != nil {
		return sample{}, err
	}
	note := fmt.Sprintf("%d calls and %d events in %.0f s; %.0f MB anonymous at most", l.Calls, l.Events, l.Seconds, l.Server.AnonPeakKB/1024)
	return sample{value: l.Server.CPUSeconds / l.Seconds * 100, load: l, note: note}, nil
}

const (
	// overloadBatch makes a transaction much more work for the server than for who sends it, or the load
	// generator would be what is overloaded.
	overloadBatch   = 100
	overloadKeys    = 100_000
	overloadCallers = 16_000
	overloadTimes   = 3
	// overloadCores is what the server has of a core.
	overloadCores = 0.3
	// overloadOnset is how long the server may take to know of overload and to work off what came before: to refuse
	// nobody in a burst, it lets a wait of two seconds stand for a second. The percentile is of what comes later.
	overloadOnset = 8 * time.Second
	// sustainable is the part of what a closed loop reaches that an open one can be offered for long.
	sustainable = 0.7
	// leaseKept is a lease, in seconds, that a client keeps meanwhile.
	leaseKept = 5
)

// measureOverload gives the server a part of a core, and its clients the rest of the machine.
func measureOverload(b *bench, like *server) (sample, error) {
	part, err := newQuota(overloadCores)
	if err != nil {
		return sample{}, err
	}
	defer part.remove()
	s, err := b.newServer(like.side, "overload")
	if err != nil {
		return sample{}, err
	}
	defer s.remove()
	s.through = part.through()
	if err := s.start(); err != nil {
		return sample{}, err
	}
	txn := offered{"batch-put"}.with("-conns", 16, "-batch", overloadBatch, "-keys", overloadKeys, "-value-bytes", 256)
	run := func(o offered) (*loaded, error) { return b.load(s, o, true) }
	peak, err := run(txn.with("-callers", 64, "-total", 3000))
	if err != nil {
		return sample{}, err
	}
	rate := peak.Rate * sustainable
	open := func(times float64) (*loaded, error) {
		offered := rate * times
		return run(txn.with("-callers", overloadCallers, "-rate", offered, "-total", int(offered)*b.scale.overloaded, "-onset", overloadOnset))
	}
	steady, err := open(1)
	if err != nil {
		return sample{}, err
	}
	if steady.Errors > 0 {
		return sample{}, fmt.Errorf("%s failed %d calls at %.0f a second: %s", s.name, steady.Errors, rate, steady.FirstError)
	}
	b.pause(settle)
	kept, err := b.keepLease(s)
	if err != nil {
		return sample{}, err
	}
	defer kept.stop()
	over, err := open(overloadTimes)
	if err != nil {
		return sample{}, err
	}
	lease := "kept"
	if err := kept.stop(); err != nil {
		lease = "lost"
	}
	if over.P99 == 0 {
		return sample{}, fmt.Errorf("%s admitted nothing after %s of overload", s.name, overloadOnset)
	}
	note := fmt.Sprintf("%.0f/s sustainable, p99 %s → %s ms (%s in the first %s); admitted %d, refused %d, failed otherwise %d; lease %s; anonymous memory %.0f → %.0f MB; %.0f %% of its part of a core busy (much less than all: the load generator was what had too much to do)",
		rate, figure(steady.P99), figure(over.P99), figure(over.OnsetP99), overloadOnset, over.Calls, over.Refused, over.Errors-over.Refused, lease,
		over.Server.AnonBeforeKB/1024, over.Server.AnonPeakKB/1024, 100*over.Server.CPUSeconds/over.Seconds/overloadCores)
	return sample{value: over.P99 / steady.P99, load: over, note: note}, nil
}

// keptLease is a lease that etcdctl keeps alive.
type keptLease struct {
	b     *bench
	s     *server
	id    string
	alive *exec.Cmd
}

func (b *bench) keepLease(s *server) (*keptLease, error) {
	text, err := b.etcdctl(s, "lease", "grant", fmt.Sprint(leaseKept))
	if err != nil {
		return nil, err
	}
	// "lease 694d… granted with TTL(5s)"
	words := strings.Fields(text)
	if len(words) < 2 {
		return nil, fmt.Errorf("etcdctl lease grant: %q", text)
	}
	k := &keptLease{b: b, s: s, id: words[1]}
	k.alive = exec.CommandContext(b.ctx, b.tools+"/etcdctl", "--endpoints=http://"+s.addr, "lease", "keep-alive", k.id)
	return k, k.alive.Start()
}

// stop says whether the lease is still there. A second call does nothing.
func (k *keptLease) stop() error {
	if k.alive == nil {
		return nil
	}
	defer func() {
		// Killed by its own id; how it ended says nothing.
		_ = k.alive.Process.Kill()
		_ = k.alive.Wait()
		k.alive = nil
	}()
	text, err := k.b.etcdctl(k.s, "lease", "timetolive", k.id)
	if err == nil && strings.Contains(text, "expired") {
		err = fmt.Errorf("%s", text)
	}
	return err
}
