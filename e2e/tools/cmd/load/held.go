package main

import (
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"engram.dev/e2e/tools/internal/endpoint"
)

// made is what the workloads that keep something have made: it lives as long as the run.
type made struct {
	mu        sync.Mutex
	endpoints []*endpoint.Endpoint
}

// heldPrefix is where kept watchers watch, each a key of its own.
const heldPrefix = "/registry/held/"

// connectConnections opens a connection an operation. Its buffers are small, or ten thousand of them would be
// the loader's memory and not the server's.
func connectConnections(b *bench, _ *caller) (operation, error) {
	small := []grpc.DialOption{
		grpc.WithReadBufferSize(1 << 10), grpc.WithWriteBufferSize(1 << 10), grpc.WithSharedWriteBuffer(true),
	}
	request := &pb.RangeRequest{Key: []byte(heldPrefix)}
	return func(c *caller) error {
		e, err := endpoint.Dial(b.addr, small...)
		if err != nil {
			return err
		}
		b.made.mu.Lock()
		b.made.endpoints = append(b.made.endpoints, e)
		b.made.mu.Unlock()
		_, err = e.KV.Range(c.ctx, request)
		return err
	}, nil
}

// connectWatches creates a watcher an operation, all of a caller's on one stream.
func connectWatches(b *bench, c *caller) (operation, error) {
	stream, err := c.Watch.Watch(c.ctx)
	if err != nil {
		return nil, err
	}
	return func(c *caller) error {
		key := fmt.Appendf(nil, "%s%09d", heldPrefix, c.index)
		return createWatcher(stream, &pb.WatchCreateRequest{Key: key})
	}, nil
}

// connectLeases grants a lease an operation.
func connectLeases(*bench, *caller) (operation, error) {
	request := &pb.LeaseGrantRequest{TTL: leaseTTL}
	return func(c *caller) error {
		_, err := c.Lease.LeaseGrant(c.ctx, request)
		return err
	}, nil
}
