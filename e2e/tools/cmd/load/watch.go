package main

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// watchKey is written by every put of the watch workload; its watchers watch its prefix.
const (
	watchKey       = "/registry/watched/key"
	watchPrefix    = "/registry/watched/"
	watchPrefixEnd = "/registry/watched0"
)

// drainTimeout is how long after the last put all events must have come.
const drainTimeout = 2 * time.Minute

// watchSide holds the streams that receive. A put carries the time when it was due, so an event's
// latency is from there to its receipt.
type watchSide struct {
	expected atomic.Int64
	received atomic.Int64
	complete chan struct{}
	streams  []*watchReader
}

// watchReader is one stream.
type watchReader struct {
	client    pb.Watch_WatchClient
	mu        sync.Mutex
	latencies []time.Duration
	err       error
}

// prepareWatch creates all watchers and waits until the server has them.
func prepareWatch(b *bench) error {
	b.watch = &watchSide{complete: make(chan struct{}, 1)}
	b.watch.expected.Store(int64(b.total) * int64(b.streams) * int64(b.watchers))
	for i := range b.streams {
		client, err := b.endpoints[i%len(b.endpoints)].Watch.Watch(b.ctx)
		if err != nil {
			return err
		}
		reader := &watchReader{client: client}
		for range b.watchers {
			if err := reader.create(); err != nil {
				return err
			}
		}
		b.watch.streams = append(b.watch.streams, reader)
	}
	for _, reader := range b.watch.streams {
		go b.watch.read(reader)
	}
	return nil
}

func (r *watchReader) create() error {
	return createWatcher(r.client, &pb.WatchCreateRequest{
		Key: []byte(watchPrefix), RangeEnd: []byte(watchPrefixEnd),
	})
}

// createWatcher asks for a watcher on a stream, on which nothing else is to be told, and waits for it.
func createWatcher(stream pb.Watch_WatchClient, wanted *pb.WatchCreateRequest) error {
	err := stream.Send(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: wanted},
	})
	if err != nil {
		return err
	}
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	if !response.Created || response.Canceled {
		return fmt.Errorf("watch is not created: %v", response)
	}
	return nil
}

func (s *watchSide) read(r *watchReader) {
	for {
		response, err := r.client.Recv()
		now := time.Now().UnixNano()
		r.mu.Lock()
		if err != nil {
			r.err = err
			r.mu.Unlock()
			return
		}
		for _, event := range response.Events {
			sent := binary.LittleEndian.Uint64(event.Kv.Value)
			r.latencies = append(r.latencies, time.Duration(now-int64(sent)))
		}
		r.mu.Unlock()
		if s.received.Add(int64(len(response.Events))) >= s.expected.Load() {
			select {
			case s.complete <- struct{}{}:
			default:
			}
		}
	}
}

func connectWatch(*bench, *caller) (operation, error) {
	return func(c *caller) error {
		value := c.values.next()
		binary.LittleEndian.PutUint64(value, uint64(time.Now().UnixNano()))
		_, err := c.KV.Put(c.ctx, &pb.PutRequest{Key: []byte(watchKey), Value: value})
		return err
	}, nil
}

// drainWatch waits for the last event. Puts that failed made none.
func drainWatch(b *bench) error {
	puts := 0
	for _, c := range b.clients {
		puts += len(c.latencies)
	}
	expected := int64(puts) * int64(b.streams) * int64(b.watchers)
	b.watch.expected.Store(expected)
	deadline := time.After(drainTimeout)
	for b.watch.received.Load() < expected {
		select {
		case <-b.watch.complete:
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-deadline:
			return fmt.Errorf("%d of %d watch events came; first error of a stream: %v",
				b.watch.received.Load(), expected, b.watch.firstError())
		}
	}
	return nil
}

func (s *watchSide) firstError() error {
	for _, r := range s.streams {
		r.mu.Lock()
		err := r.err
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// delivered returns how many events came, and how long each was on its way.
func (s *watchSide) delivered() (int, []time.Duration) {
	var latencies []time.Duration
	for _, r := range s.streams {
		r.mu.Lock()
		latencies = append(latencies, r.latencies...)
		r.mu.Unlock()
	}
	return len(latencies), latencies
}
