package main

import "fmt"

// tellingSteps is how many of the clock's steps a figure needs that means something to a tenth.
const tellingSteps = 10

// sizes is how much is measured.
type sizes struct {
	runs         int
	calls        int // of the cheap calls, a run
	keys         int // of the smaller stores
	manyKeys     int // of the large one
	watchPuts    int
	cpuSeconds   float64 // that a run of the expensive calls shall cost the server
	steady       int     // seconds of the latency rows
	idle         int     // seconds
	updateRounds int
	updates      int // a round
}

var (
	fullSizes = sizes{
		runs: 3, calls: 40_000, keys: 100_000, manyKeys: 1_000_000, watchPuts: 2_000,
		cpuSeconds: 2, steady: 20, idle: 60, updateRounds: 5, updates: 200_000,
	}
	quickSizes = sizes{
		runs: 1, calls: 20_000, keys: 100_000, manyKeys: 200_000, watchPuts: 500,
		cpuSeconds: 1, steady: 6, idle: 15, updateRounds: 5, updates: 10_000,
	}
)

// expensiveCallsMax bounds the expensive calls of a run where a server is quick at them.
const expensiveCallsMax = 20_000

// steadyRate is the puts a second that are offered while something else goes on: well below what
// either server can take, so that what is seen is the disturbance.
const steadyRate = 1_000

// The stores that rows are measured on. Each is loaded once into both servers.
const (
	storeNone  = "none"
	storeKB    = "keys of 1 KB"
	storeSmall = "keys of 256 B"
	storeMany  = "many keys of 256 B"
	storeThree = "three members, keys of 1 KB"
	storeUsers = "users, keys of 1 KB"
)

var storeOrder = []string{storeNone, storeKB, storeUsers, storeThree, storeSmall, storeMany}

// goal is a target of the performance table.
type goal struct {
	text    string
	reached func(etcd, engram float64) bool
	// row is the one whose figure, Engram's too, takes the place of etcd's; mostly none.
	row string
}

// timesBetter: etcd's figure divided by Engram's is at least n.
func timesBetter(n float64) *goal {
	return &goal{text: fmt.Sprintf("≥ %g", n), reached: func(etcd, engram float64) bool { return etcd >= n*engram }}
}

// fractionOf: Engram's figure is at most n of etcd's; text says how much that is.
func fractionOf(n float64, text string) *goal {
	return &goal{text: "≤ " + text + " of etcd's", reached: func(etcd, engram float64) bool { return engram <= n*etcd }}
}

// atMost: Engram's own figure is no more than n.
func atMost(n float64, unit string) *goal {
	return &goal{text: fmt.Sprintf("Engram ≤ %g%s", n, unit), reached: func(_, engram float64) bool { return engram <= n }}
}

// asIn: Engram's figure is about that of another row; what is said of both allows for noise.
func asIn(row string) *goal {
	const noise = 1.5
	return &goal{
		text: fmt.Sprintf("Engram ≤ %g × its %s", noise, row), row: row,
		reached: func(other, engram float64) bool { return engram <= noise*other },
	}
}

// sample is what one run of a row gave.
type sample struct {
	value  float64
	load   *loaded // nil where it was not the program load that measured
	note   string
	atMost bool // so little was used that the clock does not tell how little: it was no more than value
}

// text is the value as it is written.
func (s sample) text() string {
	if s.atMost {
		return "≤ " + figure(s.value)
	}
	return figure(s.value)
}

// ratio is how many times better Engram is.
func ratio(etcd, engram sample) string {
	switch {
	case engram.value <= 0 || etcd.atMost && engram.atMost:
		return "–"
	case engram.atMost:
		return "≥ " + figure(etcd.value/engram.value)
	case etcd.atMost:
		return "≤ " + figure(etcd.value/engram.value)
	}
	return figure(etcd.value / engram.value)
}

// cpuPerCall is what the server used a call, by its clock's steps.
func cpuPerCall(l *loaded, note string) sample {
	const step = 1.0 / ticksPerSecond
	if used := l.Server.CPUSeconds; used < tellingSteps*step {
		return sample{value: (used + step) * 1e6 / float64(max(l.Ops, 1)), load: l, note: note, atMost: true}
	}
	return sample{value: l.Server.CPUMicrosPerOp, load: l, note: note}
}

// row is a line of the table.
type row struct {
	name    string
	title   string
	unit    string
	store   string
	once    bool // changes its store, or hardly varies: one run
	goal    *goal
	measure func(b *bench, s *server) (sample, error)
}

// allRows returns the rows in the order in which they run: those that leave their store as it was
// come first.
func (b *bench) allRows() []row {
	rows := append(b.callRows(), b.userRows()...)
	rows = append(rows, b.clusterRows()...)
	rows = append(rows, b.listRows(storeSmall, b.sizes.keys, 20)...)
	rows = append(rows, row{
		name: "rss", title: fmt.Sprintf("resident memory after loading %s keys (64 B + 256 B)", short(b.sizes.manyKeys)),
		unit: "MB", store: storeMany, once: true, goal: fractionOf(1.0/3, "1/3"), measure: measureRSS,
	}, row{
		name: "load", title: fmt.Sprintf("load of %s keys (64 B + 256 B), 100 puts a transaction", short(b.sizes.manyKeys)),
		unit: "s CPU", store: storeMany, once: true, goal: timesBetter(4), measure: measureFill,
	})
	rows = append(rows, b.listRows(storeMany, b.sizes.manyKeys, 200*b.shrunk())...)
	rows = append(rows, b.wholeStoreRows()...)
	return append(rows, b.scaleRows()...)
}

// userRows are cheap calls of a user with a simple token, where authentication is on.
func (b *bench) userRows() []row {
	calls := func(name, title string, o offered) row {
		return row{
			name: name, title: title, unit: "µs CPU", store: storeUsers, goal: timesBetter(2),
			measure: func(b *bench, s *server) (sample, error) {
				return b.perCall(s, b.onKB(o.with("-total", b.sizes.calls, "-user", userAndPassword)))
			},
		}
	}
	one := []any{"-conns", 1, "-callers", 64}
	return []row{
		calls("user-put-1x64", "as a user with a token: put 1 KB, 1 × 64", offered{"put"}.with(one...)),
		calls("user-get-1x64", "as a user with a token: get, linearizable, 1 × 64", offered{"get"}.with(one...)),
	}
}

// clusterRows are calls of three members, on the leader; what all of them use is summed.
func (b *bench) clusterRows() []row {
	calls := func(name, title string, goal *goal, o offered) row {
		return row{
			name: name, title: title, unit: "µs CPU", store: storeThree, goal: goal,
			measure: func(b *bench, s *server) (sample, error) {
				return b.perClusterCall(s, b.onKB(o.with("-total", b.sizes.calls)))
			},
		}
	}
	one, many := []any{"-conns", 1, "-callers", 64}, []any{"-conns", 64, "-callers", 64}
	return []row{
		calls("three-put-1x64", "3 members, all three summed: put 1 KB, 1 × 64", timesBetter(5), offered{"put"}.with(one...)),
		calls("three-put-64x64", "3 members, all three summed: put 1 KB, 64 × 64", timesBetter(4), offered{"put"}.with(many...)),
		calls("three-get-1x64", "3 members, all three summed: get, linearizable, 1 × 64", timesBetter(5), offered{"get"}.with(one...)),
	}
}

// callRows are the cheap calls, of which many are made.
func (b *bench) callRows() []row {
	calls := func(name, title string, times float64, count int, o offered) row {
		return row{
			name: name, title: title, unit: "µs CPU", store: storeKB, goal: timesBetter(times),
			measure: func(b *bench, s *server) (sample, error) {
				return b.perCall(s, b.onKB(o.with("-total", count)))
			},
		}
	}
	watch := func(name, title string, o offered) row {
		return row{
			name: name, title: title, unit: "µs CPU an event", store: storeKB, goal: timesBetter(5),
			measure: func(b *bench, s *server) (sample, error) {
				return b.perCall(s, b.onKB(o.with("-callers", 16)))
			},
		}
	}
	n := b.sizes.calls
	one, many := []any{"-conns", 1, "-callers", 64}, []any{"-conns", 64, "-callers", 64}
	return []row{
		{name: "binary", title: "size of the binary as built", unit: "MB", store: storeNone, once: true, measure: measureBinary},
		{
			name: "disk", store: storeNone, once: true, unit: "MB", goal: fractionOf(1.0/3, "1/3"), measure: measureDisk,
			title: fmt.Sprintf("disk after %s updates of %s keys of 1 KB, compacted %d times, without the write-ahead log",
				short(b.sizes.updates*b.sizes.updateRounds), short(b.sizes.keys), b.sizes.updateRounds),
		},
		calls("put-1x64", "put 1 KB, 1 connection × 64 callers", 5, n, offered{"put"}.with(one...)),
		calls("put-64x64", "put 1 KB, 64 connections × 64 callers", 4, n, offered{"put"}.with(many...)),
		calls("txn-1x64", "Kubernetes Txn (mod revision = N: put, else get), 1 × 64", 5, n, offered{"txn", "-conflicts", "10"}.with(one...)),
		calls("get-1x64", "get, linearizable, 1 × 64", 7, n, offered{"get"}.with(one...)),
		calls("get-64x64", "get, linearizable, 64 × 64", 4, n, offered{"get"}.with(many...)),
		// So cheap that the clock's steps of 10 ms would be seen in fewer.
		calls("lease-1x64", "lease keepalive, 1 × 64, one stream a caller", 5, 5*n, offered{"lease-keepalive", "-one-stream"}.with(one...)),
		calls("lease-new-1x64", "lease keepalive, 1 × 64, a stream a call", 5, n, offered{"lease-keepalive"}.with(one...)),
		watch("watch-100x1", "watch, 100 streams × 1 watcher, puts of 1 KB", offered{"watch", "-conns", "10", "-streams", "100", "-watchers", "1"}.with("-total", b.sizes.watchPuts)),
		watch("watch-10x100", "watch, 10 streams × 100 watchers", offered{"watch", "-conns", "10", "-streams", "10", "-watchers", "100"}.with("-total", b.sizes.watchPuts/4)),
		{
			name: "put-1x1", title: "put 1 KB, one caller who waits: p50",
			unit: "ms", store: storeKB, goal: fractionOf(0.5, "1/2"), measure: measureOneCaller,
		},
		{
			name: "put-p99", title: "put 1 KB at half of etcd's peak rate, 64 × 64: p99",
			unit: "ms", store: storeKB, goal: fractionOf(0.5, "1/2"), measure: measureHalfPeak,
		},
	}
}

func (r row) withoutGoal() row {
	r.goal = nil
	return r
}

// listRows are the reads whose cost must not depend on the size of the store.
func (b *bench) listRows(store string, keys int, times float64) []row {
	size := short(keys)
	on := func(o offered) offered { return o.with("-keys", keys, "-value-bytes", 256, "-conns", 1, "-callers", 1) }
	expensive := func(name, title string, times float64, o offered) row {
		return row{
			name: fmt.Sprintf("%s-%s", name, size), title: title, unit: "µs CPU", store: store, goal: timesBetter(times),
			measure: func(b *bench, s *server) (sample, error) { return b.perExpensiveCall(name+size, s, o) },
		}
	}
	first := expensive("list-first", fmt.Sprintf("list page of 500 of %s keys, first page", size),
		times, on(offered{"list", "-position", "first"}))
	rows := []row{first}
	for _, position := range []string{"middle", "last"} {
		page := expensive("list-"+position, fmt.Sprintf("list page of 500 of %s keys, %s page", size, position),
			times, on(offered{"list", "-position", position}))
		// etcd counts what is behind the page, so its later pages are cheaper; ours may not differ.
		page.goal = asIn(first.name)
		rows = append(rows, page)
	}
	rows = append(rows, expensive("list-pinned", fmt.Sprintf("list page of 500 of %s keys, first page, 1000 writes ago", size),
		times, on(offered{"list", "-pinned"})))
	count := expensive("count", fmt.Sprintf("count of %s keys", size), 1000*b.shrunk(), on(offered{"count"}))
	if store == storeSmall {
		count = count.withoutGoal() // the target is for the large store
	}
	return append(rows, count)
}

// wholeStoreRows read, restart, or rewrite the large store.
func (b *bench) wholeStoreRows() []row {
	size := short(b.sizes.manyKeys)
	whole := func(workload string) offered {
		return offered{workload}.with("-keys", b.sizes.manyKeys, "-value-bytes", 256, "-conns", 1, "-callers", 1, "-total", 2)
	}
	reading := func(name, title string, o offered) row {
		return row{
			name: name, title: title, unit: "s CPU", store: storeMany, goal: timesBetter(4),
			measure: func(b *bench, s *server) (sample, error) {
				l, err := b.load(s, o, false)
				if err != nil {
					return sample{}, err
				}
				note := fmt.Sprintf("%.1f s each", l.Seconds/float64(l.Ops))
				return sample{value: l.Server.CPUMicrosPerOp / 1e6, load: l, note: note}, nil
			},
		}
	}
	under := fmt.Sprintf(" under %d puts/s: put p99 ÷ steady p99", steadyRate)
	return []row{
		{name: "idle", title: fmt.Sprintf("idle member with %s keys", size), unit: "% of a core", store: storeMany, once: true, goal: atMost(0.5, " %"), measure: measureIdle},
		{
			name: "stream-rss", title: size + " keys by RangeStream: growth of anonymous memory", unit: "MB",
			store: storeMany, goal: atMost(64, " MB"),
			measure: func(b *bench, s *server) (sample, error) {
				l, err := b.load(s, whole("rangestream"), false)
				if err != nil {
					return sample{}, err
				}
				return sample{value: l.growthMB(), load: l}, nil
			},
		},
		reading("rangestream", size+" keys by RangeStream", whole("rangestream")),
		reading("range-all", size+" keys in one Range", whole("range-all")),
		{name: "snapshot", title: "snapshot save", unit: "s CPU", store: storeMany, goal: fractionOf(0.5, "1/2"), measure: measureSnapshot},
		{name: "restart", title: fmt.Sprintf("kill -9, restart with %s keys: to the first linearizable read", size), unit: "s", store: storeMany, goal: fractionOf(0.2, "1/5"), measure: measureRestart},
		{name: "defrag", title: "defragment" + under, unit: "×", store: storeMany, goal: atMost(1.5, " ×"), measure: measureDefrag},
		{name: "compact", title: fmt.Sprintf("compaction of %s revisions", size) + under, unit: "×", store: storeMany, goal: atMost(1.5, " ×"), measure: measureCompaction},
	}
}

// onKB adds what the store of 1 KB values needs.
func (b *bench) onKB(o offered) offered { return o.with("-keys", b.sizes.keys, "-value-bytes", 1024) }

// shrunk is the part of a million that the large store holds: what etcd spends on a page or a count
// grows with it, and so do the targets.
func (b *bench) shrunk() float64 { return float64(b.sizes.manyKeys) / 1e6 }

// short writes 100000 as 100k.
func short(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n >= 1_000 && n%1_000 == 0:
		return fmt.Sprintf("%dk", n/1_000)
	}
	return fmt.Sprint(n)
}
