package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

var workloads = map[string]workload{
	"load":            {prepare: prepareLoad, connect: connectLoad, once: true},
	"put":             {connect: connectPut},
	"txn":             {connect: connectTxn},
	"get":             {connect: connectGet},
	"list":            {prepare: prepareList, connect: connectList},
	"list-all":        {connect: connectListAll, once: true},
	"count":           {connect: connectCount},
	"rangestream":     {connect: connectRangeStream, once: true},
	"range-all":       {connect: connectRangeAll, once: true},
	"watch":           {prepare: prepareWatch, connect: connectWatch, drain: drainWatch, once: true},
	"lease-keepalive": {connect: connectKeepAlive},
	"batch-put":       {connect: connectBatchPut},
	"connections":     {connect: connectConnections, once: true, holds: true},
	"watches":         {connect: connectWatches, once: true, holds: true},
	"leases":          {connect: connectLeases, once: true, holds: true},
	"kubernetes":      {prepare: prepareKubernetes, connect: connectKubernetes, drain: drainKubernetes, once: true},
}

// prepareLoad makes as many operations as are needed to write every key.
func prepareLoad(b *bench) error {
	b.total = (b.keys + b.batch - 1) / b.batch
	return nil
}

func connectLoad(b *bench, _ *caller) (operation, error) {
	return func(c *caller) error {
		first := c.index * b.batch
		last := min(first+b.batch, b.keys)
		if b.batch == 1 {
			return c.put(b.keySet.key(b.keySet.shuffled(first)))
		}
		txn := &pb.TxnRequest{}
		for i := first; i < last; i++ {
			txn.Success = append(txn.Success, putOp(b.keySet.key(b.keySet.shuffled(i)), c.values.next()))
		}
		_, err := c.KV.Txn(c.ctx, txn)
		if err == nil {
			c.counts.operations += last - first
		}
		return err
	}, nil
}

func (c *caller) put(key []byte) error {
	_, err := c.KV.Put(c.ctx, &pb.PutRequest{Key: key, Value: c.values.next()})
	return err
}

func putOp(key, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: key, Value: value},
	}}
}

func connectPut(b *bench, _ *caller) (operation, error) {
	return func(c *caller) error {
		return c.put(b.keySet.key(c.random.IntN(b.keys)))
	}, nil
}

// connectBatchPut is a call that is much work for the server and little for its caller.
func connectBatchPut(b *bench, _ *caller) (operation, error) {
	return func(c *caller) error {
		txn := &pb.TxnRequest{}
		// A key may stand in a transaction once: neighbours from a random place on.
		first := c.random.IntN(b.keys)
		for i := range b.batch {
			key := b.keySet.key(b.keySet.shuffled((first + i) % b.keys))
			txn.Success = append(txn.Success, putOp(key, c.values.next()))
		}
		_, err := c.KV.Txn(c.ctx, txn)
		return err
	}, nil
}

// txnKeys is how many keys a caller of txn writes in turn: it has to know their revisions.
const txnKeys = 64

// connectTxn reads the revisions of the caller's keys, which no other caller writes.
func connectTxn(b *bench, c *caller) (operation, error) {
	var keys [][]byte
	var revisions []int64
	for i := c.number; i < b.keys && len(keys) < txnKeys; i += b.callers {
		key := b.keySet.key(b.keySet.shuffled(i))
		response, err := c.KV.Range(c.ctx, &pb.RangeRequest{Key: key})
		if err != nil {
			return nil, err
		}
		revision := int64(0)
		if len(response.Kvs) > 0 {
			revision = response.Kvs[0].ModRevision
		}
		keys, revisions = append(keys, key), append(revisions, revision)
	}
	if len(keys) == 0 {
		return nil, errors.New("txn needs a key for every caller: raise -keys")
	}
	turn := 0
	return func(c *caller) error {
		turn = (turn + 1) % len(keys)
		expected := revisions[turn]
		if b.conflicts > 0 && c.random.Float64()*100 < b.conflicts {
			expected++ // no revision of this key
		}
		response, err := c.KV.Txn(c.ctx, kubernetesTxn(keys[turn], c.values.next(), expected))
		if err != nil {
			return err
		}
		if response.Succeeded {
			revisions[turn] = response.Header.Revision
			return nil
		}
		c.counts.conflicts++
		if kvs := response.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
			revisions[turn] = kvs[0].ModRevision
		}
		return nil
	}, nil
}

func kubernetesTxn(key, value []byte, revision int64) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: key, Target: pb.Compare_MOD,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
		}},
		Success: []*pb.RequestOp{putOp(key, value)},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: key},
		}}},
	}
}

func connectGet(b *bench, _ *caller) (operation, error) {
	return func(c *caller) error {
		key := b.keySet.key(c.random.IntN(b.keys))
		response, err := c.KV.Range(c.ctx, &pb.RangeRequest{Key: key})
		if err != nil {
			return err
		}
		if len(response.Kvs) == 0 {
			c.counts.missing++
		}
		return nil
	}, nil
}

func everything() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(prefixEnd)}
}

// prepareList finds the revision to read at: the head, or one that later writes have left behind.
func prepareList(b *bench) error {
	if !b.pinned {
		return nil
	}
	head, err := b.endpoints[0].KV.Range(b.ctx, &pb.RangeRequest{Key: []byte(prefix)})
	if err != nil {
		return err
	}
	b.revision = head.Header.Revision
	c := &caller{Endpoint: b.endpoints[0], ctx: b.ctx, values: newValues(b.seed, math.MaxUint64, b.valueBytes)}
	for i := range b.behind {
		if err := c.put(b.keySet.key(b.keySet.shuffled(i % b.keys))); err != nil {
			return err
		}
	}
	return nil
}

func connectList(b *bench, _ *caller) (operation, error) {
	first := 0
	switch b.position {
	case "middle":
		first = b.keys / 2
	case "last":
		first = max(0, b.keys-b.page)
	}
	request := everything()
	request.Key = b.keySet.key(first)
	request.Limit = int64(b.page)
	request.Revision = b.revision
	return func(c *caller) error {
		response, err := c.KV.Range(c.ctx, request)
		if err != nil {
			return err
		}
		c.countRead(response)
		if want := min(b.page, b.keys-first); len(response.Kvs) != want {
			c.counts.missing += want - len(response.Kvs)
		}
		return nil
	}, nil
}

func (c *caller) countRead(response *pb.RangeResponse) {
	c.counts.keysRead += len(response.Kvs)
	c.counts.bytesRead += proto.Size(response)
}

// connectListAll reads on from the last key, at the revision of the first page.
func connectListAll(b *bench, _ *caller) (operation, error) {
	return func(c *caller) error {
		request := everything()
		request.Limit = int64(b.page)
		for {
			response, err := c.KV.Range(c.ctx, request)
			if err != nil {
				return err
			}
			c.counts.operations++
			c.countRead(response)
			if !response.More || len(response.Kvs) == 0 {
				return nil
			}
			request.Key = append(response.Kvs[len(response.Kvs)-1].Key, 0)
			if request.Revision == 0 {
				request.Revision = response.Header.Revision
			}
		}
	}, nil
}

func connectCount(b *bench, _ *caller) (operation, error) {
	request := everything()
	request.CountOnly = true
	return func(c *caller) error {
		response, err := c.KV.Range(c.ctx, request)
		if err != nil {
			return err
		}
		if response.Count != int64(b.keys) {
			c.counts.missing += b.keys - int(response.Count)
		}
		return nil
	}, nil
}

func connectRangeStream(*bench, *caller) (operation, error) {
	return func(c *caller) error {
		stream, err := c.KV.RangeStream(c.ctx, everything())
		if err != nil {
			return err
		}
		for {
			chunk, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			c.countRead(chunk.RangeResponse)
		}
	}, nil
}

func connectRangeAll(*bench, *caller) (operation, error) {
	return func(c *caller) error {
		response, err := c.KV.Range(c.ctx, everything())
		if err != nil {
			return err
		}
		c.countRead(response)
		return nil
	}, nil
}

// leaseTTL is long enough that no lease expires while it is measured.
const leaseTTL = 3600

func connectKeepAlive(b *bench, c *caller) (operation, error) {
	lease, err := c.Lease.LeaseGrant(c.ctx, &pb.LeaseGrantRequest{TTL: leaseTTL})
	if err != nil {
		return nil, err
	}
	request := &pb.LeaseKeepAliveRequest{ID: lease.ID}
	if !b.oneStream {
		return func(c *caller) error {
			// As clientv3's KeepAliveOnce: a stream a call, ended by cancelling it.
			ctx, cancel := context.WithCancel(c.ctx)
			defer cancel()
			stream, err := c.Lease.LeaseKeepAlive(ctx)
			if err != nil {
				return err
			}
			return keepAlive(stream, request)
		}, nil
	}
	stream, err := c.Lease.LeaseKeepAlive(c.ctx)
	if err != nil {
		return nil, err
	}
	return func(*caller) error { return keepAlive(stream, request) }, nil
}

func keepAlive(stream pb.Lease_LeaseKeepAliveClient, request *pb.LeaseKeepAliveRequest) error {
	if err := stream.Send(request); err != nil {
		return err
	}
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	if response.TTL <= 0 {
		return fmt.Errorf("lease %d is gone", request.ID)
	}
	return nil
}
