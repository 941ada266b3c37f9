package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
)

const (
	progressPeriod = 100 * time.Millisecond
	// Before a watch that a member ended is made again: a learner ends them all.
	againAfter = 100 * time.Millisecond
)

// observe watches all keys at one member until ctx ends, from wherever it was again if the watch ends,
// and tells reached whenever it has come to another revision.
func observe(ctx context.Context, c *client.RecordingClient, seen *timeline, reached func(int64)) {
	// The first revision that was not seen yet.
	next := int64(2)
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(ctx)
		next = follow(watching, c, next, seen, reached)
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
}

// follow is one watch from next on; it returns where the one after it has to begin.
func follow(
	ctx context.Context, c *client.RecordingClient, next int64, seen *timeline, reached func(int64),
) int64 {
	responses := c.Watch(ctx, "", next, true, true, false)
	progress := time.NewTicker(progressPeriod)
	defer progress.Stop()
	for {
		var response clientv3.WatchResponse
		select {
		case <-progress.C:
			// Lost with its stream, it is asked for again.
			_ = c.RequestProgress(ctx)
			continue
		case told, open := <-responses:
			if !open {
				return next
			}
			response = told
		}
		// The compacted revision itself can be watched.
		next = max(next, response.CompactRevision)
		if response.Err() != nil {
			return next
		}
		if count := len(response.Events); count > 0 {
			seen.add(response.Events)
			next = response.Events[count-1].Kv.ModRevision + 1
			reached(next - 1)
		}
	}
}
