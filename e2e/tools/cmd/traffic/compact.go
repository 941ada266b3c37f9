package main

import (
	"context"
	"errors"
	"math/rand"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/random"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
)

const (
	compactionLimit = time.Second
	compactionPause = 100 * time.Millisecond
	// So far beyond the newest revision that it cannot have come to be when it is asked for.
	future = 1_000_000
)

// compact compacts some revision between the last compaction and the newest that some observer has
// seen; now and then one of the future, which has to be refused. It ends with finish, and with ctx.
//
// It asks for one revision until it is told what became of it: see settleCompactions.
func compact(ctx context.Context, c *client.RecordingClient, seen *timeline, finish <-chan struct{}) {
	ticker := time.NewTicker(traffic.CompactionDefault.Period)
	defer ticker.Stop()
	last := int64(1)
	for {
		select {
		case <-finish:
			return
		case <-ticker.C:
		}
		whole := seen.wholeUpTo()
		if rand.Intn(10) == 0 {
			compactSurely(ctx, c, whole+future)
			continue
		}
		// The last one again is to be refused too.
		last = random.RandRange(last, whole+1)
		compactSurely(ctx, c, last)
	}
}

func compactSurely(ctx context.Context, c *client.RecordingClient, revision int64) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, compactionLimit)
		_, err := c.Compact(limited, revision)
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev) {
			return
		}
		time.Sleep(compactionPause)
	}
}

// settleCompactions returns the compactor's operations with what is known of those without an answer.
// No watch tells whether they happened, and each makes the search for a linearization twice as large.
// But what the next attempt is told of the same revision tells it: if that compacts, none before it had
// happened, nor can any do anything after it; if it is refused as compacted, one of them had, which may
// as well be the first.
func settleCompactions(operations []porcupine.Operation) []porcupine.Operation {
	settled := make([]porcupine.Operation, 0, len(operations))
	var open []porcupine.Operation
	for _, operation := range operations {
		response := operation.Output.(model.MaybeEtcdResponse)
		if response.Error != "" {
			open = append(open, operation)
			continue
		}
		if len(open) > 0 && response.ClientError == mvcc.ErrCompacted.Error() {
			first := open[0]
			first.Output = model.MaybeEtcdResponse{Persisted: true}
			first.Return = operation.Return
			settled = append(settled, first)
		}
		settled, open = append(settled, operation), nil
	}
	return append(settled, open...)
}
