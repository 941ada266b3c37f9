package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

const (
	// For the last write, which has to succeed, and for observers to come to it.
	endLimit = 60 * time.Second
	// For one attempt of the last write, and between two of them.
	lastWriteLimit = 5 * time.Second
	lastWritePause = 200 * time.Millisecond
)

// The key of the last write.
const lastKey = "tombstone"

// A recording under way.
type recording struct {
	chosen    profile
	began     time.Time
	endpoints []string
	// Those of the traffic; those that observe.
	clients, watchers *client.ClientSet
	seen              *timeline
	// How far each observer has come. Revisions.
	reached []atomic.Int64
	// The client that compacts.
	compactor int
	traffic   sync.WaitGroup
	finish    chan struct{}
	// Ends the observers, and waits for them.
	endObservers func()
	took         time.Duration
	reports      []report.ClientReport
}

// What was done, as it is printed.
type summary struct {
	Operations  int     `json:"operations"`
	Failures    int     `json:"failures"`
	Seconds     float64 `json:"seconds"`
	PerSecond   float64 `json:"per_second"`
	Revisions   int64   `json:"revisions"`
	Compactions int     `json:"compactions"`
	Watches     int     `json:"watches"`
	Events      int     `json:"events"`
}

// begin has observers at every member, and then the traffic, begin.
func begin(endpoints []string, chosen profile) (*recording, error) {
	ids, began := identity.NewIDProvider(), time.Now()
	r := &recording{
		chosen:    chosen,
		began:     began,
		endpoints: endpoints,
		clients:   client.NewSet(ids, began),
		watchers:  client.NewSet(ids, began),
		seen:      newTimeline(),
		reached:   make([]atomic.Int64, len(endpoints)),
		finish:    make(chan struct{}),
	}
	err := traffic.CheckEmptyDatabaseAtStart(context.Background(), zap.NewNop(), endpoints, r.clients)
	if err != nil {
		return nil, err
	}
	if err := r.beginObservers(); err != nil {
		return nil, err
	}
	return r, r.beginTraffic()
}

func (r *recording) beginObservers() error {
	ctx, cancel := context.WithCancel(context.Background())
	var observers sync.WaitGroup
	r.endObservers = func() {
		cancel()
		observers.Wait()
	}
	for place, endpoint := range r.endpoints {
		observer, err := r.watchers.NewClient([]string{endpoint})
		if err != nil {
			return err
		}
		observers.Go(func() { observe(ctx, observer, r.seen, r.reached[place].Store) })
	}
	return nil
}

// beginTraffic is the suite's SimulateTraffic without its own cluster.
func (r *recording) beginTraffic() error {
	ctx, rates := context.Background(), r.chosen.rates
	limiter := rate.NewLimiter(rate.Limit(rates.MaximalQPS), rates.BurstableQPS)
	keys, storage := traffic.NewKeyStore(10, "key"), traffic.NewKubernetesStorage()
	writes := traffic.RunTrafficLoopParam{
		QPSLimiter:                         limiter,
		IDs:                                r.clients.IdentityProvider(),
		LeaseIDStorage:                     identity.NewLeaseIDStorage(),
		NonUniqueRequestConcurrencyLimiter: traffic.NewConcurrencyLimiter(rates.MaxNonUniqueRequestConcurrency),
		KeyStore:                           keys,
		Storage:                            storage,
		Finish:                             r.finish,
	}
	watches := traffic.RunWatchLoopParam{
		Config:     traffic.WatchDefault,
		QPSLimiter: limiter,
		KeyStore:   keys,
		Storage:    storage,
		Finish:     r.finish,
		Logger:     zap.NewNop(),
	}
	compactor, err := r.clients.NewClient(r.endpoints)
	if err != nil {
		return err
	}
	r.compactor = compactor.ID
	r.traffic.Go(func() { compact(ctx, compactor, r.seen, r.finish) })
	return errors.Join(
		traffic.SimulateKeyValueTraffic(ctx, &r.traffic, rates, r.endpoints, r.clients, r.chosen.traffic, writes),
		traffic.SimulateWatchTraffic(ctx, &r.traffic, &traffic.WatchDefault, r.endpoints, r.clients, r.chosen.traffic, watches),
	)
}

// end ends the traffic, writes once more, and waits until every observer has seen that.
func (r *recording) end() error {
	close(r.finish)
	r.traffic.Wait()
	r.took = time.Since(r.began)
	last, err := r.lastWrite()
	if err == nil {
		err = r.waitForObservers(last)
	}
	r.endObservers()
	r.reports = slices.Concat(r.clients.Reports(), r.watchers.Reports())
	return err
}

// lastWrite has to succeed: what the suite knows of requests without an answer ends with it.
func (r *recording) lastWrite() (int64, error) {
	writer, err := r.clients.NewClient(r.endpoints)
	if err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(endLimit); ; time.Sleep(lastWritePause) {
		ctx, cancel := context.WithTimeout(context.Background(), lastWriteLimit)
		value := fmt.Sprint("last-", r.clients.IdentityProvider().NewRequestID())
		response, err := writer.Put(ctx, lastKey, value)
		cancel()
		if err == nil {
			return response.Header.Revision, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("the last write does not succeed: %w", err)
		}
	}
}

func (r *recording) waitForObservers(last int64) error {
	for place := range r.reached {
		for deadline := time.Now().Add(endLimit); r.reached[place].Load() < last; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("the observer at %s has come to revision %d, not to %d, in %v",
					r.endpoints[place], r.reached[place].Load(), last, endLimit)
			}
		}
	}
	return nil
}

// write writes what was recorded into directory, for the command referee. What is known of requests
// without an answer is told with them; if that fails, all is written as it was recorded.
func (r *recording) write(directory string) (summary, error) {
	done := r.summarise()
	persisted, deaths, err := r.seen.persisted(done.Revisions, r.reports)
	if err != nil {
		return done, errors.Join(err, r.writeReports(directory))
	}
	for place, one := range r.reports {
		r.reports[place].KeyValue = deaths.settle(one.KeyValue)
		if one.ClientID == r.compactor {
			r.reports[place].KeyValue = settleCompactions(one.KeyValue)
		}
	}
	if err := r.writeReports(directory); err != nil {
		return done, err
	}
	file, err := os.Create(filepath.Join(directory, "persisted.json"))
	if err != nil {
		return done, err
	}
	encoder := json.NewEncoder(file)
	for _, request := range persisted {
		if err := encoder.Encode(request); err != nil {
			return done, errors.Join(err, file.Close())
		}
	}
	return done, file.Close()
}

func (r *recording) writeReports(directory string) error {
	detail := report.TrafficDetail{ExpectUniqueRevision: r.chosen.traffic.ExpectUniqueRevision()}
	written, err := report.NewTestReport(zap.NewNop(), directory, nil, &detail)
	if err != nil {
		return err
	}
	written.SetClientReports(r.reports)
	return written.SaveEtcdData()
}

func (r *recording) summarise() summary {
	done := summary{Seconds: r.took.Seconds(), Revisions: report.OperationsMaxRevision(r.reports)}
	for _, one := range r.reports {
		done.Watches += len(one.Watch)
		done.Events += one.WatchEventCount()
		for _, operation := range one.KeyValue {
			if operation.Output.(model.MaybeEtcdResponse).Error != "" {
				done.Failures++
				continue
			}
			done.Operations++
			if response := operation.Output.(model.MaybeEtcdResponse); response.Compact != nil {
				done.Compactions++
			}
		}
	}
	done.PerSecond = float64(done.Operations) / done.Seconds
	return done
}
