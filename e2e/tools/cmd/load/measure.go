package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"engram.dev/e2e/tools/internal/endpoint"
)

// operation does one call of its caller.
type operation func(c *caller) error

// workload is one kind of load. prepare runs once, connect once for every caller, both before
// anything is measured; drain runs at the end and is measured.
type workload struct {
	prepare func(b *bench) error
	connect func(b *bench, c *caller) (operation, error)
	drain   func(b *bench) error
	// once: no warm-up, the measured operations are the point.
	once bool
	// holds: what the operations made is kept for -hold, and what that costs the server is told.
	holds bool
}

// bench is one run.
type bench struct {
	config
	ctx       context.Context
	keySet    keySet
	endpoints []*endpoint.Endpoint
	clients   []*caller
	watch     *watchSide  // of the watch workload only
	cluster   *kubernetes // of that workload only
	made      made
	revision  int64 // at which list reads
	next      atomic.Int64
}

// caller is one that waits for its answer before it sends again.
type caller struct {
	*endpoint.Endpoint
	ctx       context.Context
	number    int
	index     int // of the current operation, over all callers
	random    *rand.Rand
	started   int64 // of the run, in nanoseconds
	values    values
	operation operation
	counts    counts
	latencies []time.Duration
	early     []time.Duration // of what was due within -onset
	errors    int
	refused   int
	err       error // the first
}

// counts is what a caller read besides operations.
type counts struct {
	operations int // where a call is not one operation
	keysRead   int
	bytesRead  int
	conflicts  int
	missing    int
}

// Result is what is printed. Times are of the measured part alone.
type Result struct {
	Workload    string       `json:"workload"`
	Conns       int          `json:"conns"`
	Callers     int          `json:"callers"`
	Keys        int          `json:"keys"`
	KeyBytes    int          `json:"key_bytes"`
	ValueBytes  int          `json:"value_bytes"`
	OfferedRate float64      `json:"offered_rate,omitempty"`
	Ops         int          `json:"ops"`
	Calls       int          `json:"calls"`
	Seconds     float64      `json:"seconds"`
	Rate        float64      `json:"rate"`
	P50         float64      `json:"p50_ms"`
	P99         float64      `json:"p99_ms"`
	P999        float64      `json:"p999_ms"`
	Max         float64      `json:"max_ms"`
	OnsetP99    float64      `json:"onset_p99_ms,omitempty"`
	Errors      int          `json:"errors"`
	FirstError  string       `json:"first_error,omitempty"`
	KeysRead    int          `json:"keys_read,omitempty"`
	BytesRead   int          `json:"bytes_read,omitempty"`
	Conflicts   int          `json:"conflicts,omitempty"`
	Missing     int          `json:"missing,omitempty"`
	Events      int          `json:"events,omitempty"`
	Refused     int          `json:"refused,omitempty"` // of Errors: with etcd's "too many requests"
	Server      *serverUsage `json:"server,omitempty"`
}

func measure(name string, w workload, c config) (*Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	// clientv3 sends this with every call.
	ctx = metadata.AppendToOutgoingContext(ctx, "client-api-version", "3.7")
	if c.user != "" {
		token, err := authenticate(ctx, c)
		if err != nil {
			return nil, err
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "token", token)
	}
	b := &bench{config: c, ctx: ctx, keySet: newKeySet(c.keys, c.keyBytes)}
	if err := b.connect(w); err != nil {
		return nil, err
	}
	if !w.once {
		b.run(b.warmup, 0)
		if err := b.firstError(); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	b.reset()

	server, err := observe(c.serverPID)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	b.run(b.total, b.rate)
	if w.drain != nil {
		if err := w.drain(b); err != nil {
			return nil, err
		}
	}
	elapsed := time.Since(started)
	result := b.result(name, elapsed)
	if result.Ops == 0 {
		return nil, fmt.Errorf("no operation succeeded: %w", b.firstError())
	}
	if result.Server, err = server.finish(result.Ops); err != nil {
		return nil, err
	}
	if w.holds {
		return result, result.Server.hold(ctx, c)
	}
	return result, nil
}

// authenticate returns a token of -user's.
func authenticate(ctx context.Context, c config) (string, error) {
	name, password, _ := strings.Cut(c.user, ":")
	e, err := endpoint.Dial(c.addr)
	if err != nil {
		return "", err
	}
	defer e.Close()
	answer, err := e.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: name, Password: password})
	if err != nil {
		return "", fmt.Errorf("-user: %w", err)
	}
	return answer.Token, nil
}

// connect makes the connections and the callers, and prepares the workload.
func (b *bench) connect(w workload) error {
	for range b.conns {
		e, err := endpoint.Dial(b.addr)
		if err != nil {
			return err
		}
		b.endpoints = append(b.endpoints, e)
	}
	if w.prepare != nil {
		if err := w.prepare(b); err != nil {
			return err
		}
	}
	started := time.Now().UnixNano()
	for i := range b.callers {
		c := &caller{
			started:  started,
			Endpoint: b.endpoints[i%len(b.endpoints)],
			ctx:      b.ctx,
			number:   i,
			random:   rand.New(rand.NewPCG(b.seed, uint64(i))),
			values:   newValues(b.seed+uint64(time.Now().UnixNano()), uint64(i), b.valueBytes),
		}
		var err error
		if c.operation, err = w.connect(b, c); err != nil {
			return err
		}
		b.clients = append(b.clients, c)
	}
	return nil
}

// run lets the callers do total operations, at rate a second if that is not 0.
func (b *bench) run(total int, rate float64) {
	b.next.Store(0)
	started := time.Now()
	var done sync.WaitGroup
	for _, c := range b.clients {
		done.Go(func() {
			for {
				i := int(b.next.Add(1)) - 1
				if i >= total || b.ctx.Err() != nil {
					return
				}
				c.index = i
				due := time.Now()
				if rate > 0 {
					due = started.Add(time.Duration(float64(i) / rate * float64(time.Second)))
					time.Sleep(time.Until(due))
				}
				c.call(due, rate > 0 && due.Before(started.Add(b.onset)))
			}
		})
	}
	done.Wait()
}

func (c *caller) call(due time.Time, isEarly bool) {
	if err := c.operation(c); err != nil {
		c.errors++
		if strings.Contains(err.Error(), "etcdserver: too many requests") {
			c.refused++
		}
		if c.err == nil {
			c.err = err
		}
		return
	}
	took := time.Since(due)
	if isEarly {
		c.early = append(c.early, took)
		return
	}
	c.latencies = append(c.latencies, took)
}

func (b *bench) reset() {
	for _, c := range b.clients {
		c.latencies, c.early, c.counts, c.errors, c.refused, c.err = nil, nil, counts{}, 0, 0, nil
	}
}

func (b *bench) firstError() error {
	for _, c := range b.clients {
		if c.err != nil {
			return c.err
		}
	}
	return b.ctx.Err()
}

func (b *bench) result(name string, elapsed time.Duration) *Result {
	r := &Result{
		Workload: name, Conns: b.conns, Callers: b.callers, Keys: b.keys,
		KeyBytes: b.keyBytes, ValueBytes: b.valueBytes, OfferedRate: b.rate,
		Seconds: elapsed.Seconds(),
	}
	var latencies, early []time.Duration
	for _, c := range b.clients {
		early = append(early, c.early...)
		latencies = append(latencies, c.latencies...)
		r.Ops += c.counts.operations
		r.KeysRead += c.counts.keysRead
		r.BytesRead += c.counts.bytesRead
		r.Conflicts += c.counts.conflicts
		r.Missing += c.counts.missing
		r.Errors += c.errors
		r.Refused += c.refused
	}
	r.Calls = len(latencies) + len(early)
	if b.watch != nil {
		r.Ops, latencies = b.watch.delivered()
	}
	if r.Ops == 0 {
		r.Ops = r.Calls
	}
	if b.cluster != nil {
		r.Events = int(b.cluster.received.Load())
	}
	if err := b.firstError(); err != nil {
		r.FirstError = err.Error()
	}
	slices.Sort(latencies)
	slices.Sort(early)
	r.OnsetP99 = quantile(early, 0.99)
	r.P50, r.P99, r.P999 = quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(latencies, 0.999)
	r.Max = quantile(latencies, 1)
	r.Rate = float64(r.Ops) / r.Seconds
	return r
}

// quantile of sorted latencies, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i]) / float64(time.Millisecond)
}
