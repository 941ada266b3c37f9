package main

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"engram.dev/e2e/tools/internal/endpoint"
)

// step draws and does one operation.
func (d *duel) step() error {
	choices := []struct {
		weight int
		do     func() error
	}{
		{250, d.readRange},
		{50, d.readRangeStream},
		{250, d.writePut},
		{80, d.writeDelete},
		{225, d.writeTxn},
		{2, d.compact},
		{6, d.compactInvalid},
		{15, d.grantLease},
		{8, d.revokeLease},
		{15, d.readLease},
		{6, d.listLeases},
		{10, d.keepLeaseAlive},
		{3, d.grantAnyLease},
		{15, d.hashKV},
		{3, d.hash},
		{16, d.createWatch},
		{9, d.cancelWatch},
		{15, d.requestProgress},
		{2, d.closeStream},
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	pick := d.IntN(total)
	for _, c := range choices {
		if pick < c.weight {
			return c.do()
		}
		pick -= c.weight
	}
	panic("the weights sum up to total")
}

func kvOf(e *endpoint.Endpoint) pb.KVClient                   { return e.KV }
func leaseOf(e *endpoint.Endpoint) pb.LeaseClient             { return e.Lease }
func maintenanceOf(e *endpoint.Endpoint) pb.MaintenanceClient { return e.Maintenance }

// unary makes the operation of a method of one of the services.
func unary[Client any, Request, Response proto.Message](
	d *duel,
	name string,
	request Request,
	method func(Client, context.Context, Request, ...grpc.CallOption) (Response, error),
	client func(*endpoint.Endpoint) Client,
) operation {
	return operation{name, request, func(ctx context.Context, side int) answer {
		return one(method(client(d.servers[side]), ctx, request))
	}}
}

// one is the answer of a call with one message.
func one[Response proto.Message](response Response, err error) answer {
	if err != nil {
		return answer{err: err}
	}
	return answer{messages: []proto.Message{response}}
}

func (d *duel) rangeOperation(request *pb.RangeRequest) operation {
	return unary(d, "Range", request, pb.KVClient.Range, kvOf)
}

func (d *duel) readRange() error {
	request := d.rangeRequest()
	if request.KeysOnly && request.SortTarget == pb.RangeRequest_VALUE && len(request.RangeEnd) > 0 {
		return d.readSortedByHiddenValue(request)
	}
	_, err := d.ask(d.rangeOperation(request))
	return err
}

// readSortedByHiddenValue checks the order of keys whose values the answer leaves out: it has to
// be that of the same request with values, which is asked first. Equals may stand in another
// order, so each answer is compared with its own server's.
func (d *duel) readSortedByHiddenValue(request *pb.RangeRequest) error {
	shown := proto.Clone(request).(*pb.RangeRequest)
	shown.KeysOnly = false
	if _, err := d.ask(d.rangeOperation(shown)); err != nil {
		return err
	}
	_, err := d.ask(operation{"Range of hidden values", request, func(ctx context.Context, side int) answer {
		values, err := d.servers[side].KV.Range(ctx, shown)
		if err != nil {
			return answer{err: err}
		}
		keys, err := d.servers[side].KV.Range(ctx, request)
		if err != nil {
			return answer{err: err}
		}
		if len(keys.Kvs) != len(values.Kvs) {
			return one(keys, nil)
		}
		for i, kv := range keys.Kvs {
			// Equals may change places between two calls; a place with another value may not.
			if string(kv.Key) == string(values.Kvs[i].Key) {
				kv.Value = values.Kvs[i].Value
			}
		}
		return one(keys, nil)
	}})
	return err
}

func (d *duel) readRangeStream() error {
	request := d.rangeStreamRequest()
	_, err := d.ask(operation{"RangeStream", request, func(ctx context.Context, side int) answer {
		stream, err := d.servers[side].KV.RangeStream(ctx, request)
		if err != nil {
			return answer{err: err}
		}
		// How the keys are cut into chunks is the server's matter; what they merge to is compared, as
		// a client is to read them.
		var merged pb.RangeStreamResponse
		for {
			chunk, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return one(&merged, nil)
			}
			if err != nil {
				return one(&merged, err)
			}
			proto.Merge(&merged, chunk)
		}
	}})
	return err
}

func (d *duel) writePut() error {
	request := d.putRequest()
	a, err := d.ask(unary(d, "Put", request, pb.KVClient.Put, kvOf))
	if err == nil && a.err == nil {
		d.lastWritten[string(request.Key)] = d.revision
	}
	return err
}

func (d *duel) writeDelete() error {
	_, err := d.ask(unary(d, "DeleteRange", d.deleteRequest(), pb.KVClient.DeleteRange, kvOf))
	return err
}

func (d *duel) writeTxn() error {
	request := d.txnRequest()
	before := d.revision
	a, err := d.ask(unary(d, "Txn", request, pb.KVClient.Txn, kvOf))
	if err == nil && a.err == nil && d.revision > before {
		d.noteWritten(request, a.messages[0].(*pb.TxnResponse).Succeeded)
	}
	return err
}

// noteWritten remembers the puts of a transaction's own level.
func (d *duel) noteWritten(request *pb.TxnRequest, succeeded bool) {
	ops := request.Failure
	if succeeded {
		ops = request.Success
	}
	for _, op := range ops {
		if put := op.GetRequestPut(); put != nil {
			d.lastWritten[string(put.Key)] = d.revision
		}
	}
}

// compact moves the compacted revision. Watchers that still read history would be cancelled or
// not, depending on the clock, so all streams are brought up to date first; with one that waits
// for the future that cannot be done, and another operation has to come first.
func (d *duel) compact() error {
	if d.awaitsFuture() {
		return d.writePut()
	}
	if err := d.compareStreams(); err != nil {
		return err
	}
	revision := d.pastRevision()
	if revision <= d.compacted {
		return d.writePut()
	}
	request := &pb.CompactionRequest{Revision: revision, Physical: d.chance(50)}
	a, err := d.ask(unary(d, "Compact", request, pb.KVClient.Compact, kvOf))
	if err != nil || a.err != nil {
		return err
	}
	d.compacted = revision
	d.compactedAt[revision] = true
	d.compactionIdle = request.Physical
	return nil
}

func (d *duel) compactInvalid() error {
	request := &pb.CompactionRequest{Physical: d.chance(30)}
	switch d.IntN(4) {
	case 0:
		request.Revision = d.compacted
	case 1:
		request.Revision = d.compacted - d.Int64N(5)
	case 2:
		request.Revision = d.revision + 1 + d.Int64N(3)
	case 3:
		request.Revision = -d.Int64N(3)
	}
	if request.Revision == 0 && d.compacted == 0 {
		// etcd takes this one, stores the hash of nothing under revision 0, and from then on answers
		// HashKV of the latest revision, which is asked for as 0, with it: a bug we do not copy.
		request.Revision = -1
	}
	_, err := d.ask(unary(d, "Compact", request, pb.KVClient.Compact, kvOf))
	return err
}

// hashKV waits for compactions first (a second physical one at the same revision is refused, but
// only when the first is done): where no key is left etcd hashes what is still to be deleted. It
// does not ask at a compacted revision itself: once its compaction is done, etcd answers that
// with the hash it took then, before that with ErrCompacted or another one.
func (d *duel) hashKV() error {
	if !d.compactionIdle {
		request := &pb.CompactionRequest{Revision: d.compacted, Physical: true}
		if _, err := d.ask(unary(d, "Compact", request, pb.KVClient.Compact, kvOf)); err != nil {
			return err
		}
		d.compactionIdle = true
	}
	request := &pb.HashKVRequest{Revision: d.readRevision()}
	if d.compactedAt[request.Revision] {
		request.Revision = 0
	}
	_, err := d.ask(unary(d, "HashKV", request, pb.MaintenanceClient.HashKV, maintenanceOf))
	return err
}

func (d *duel) hash() error {
	request := &pb.HashRequest{}
	_, err := d.ask(unary(d, "Hash", request, pb.MaintenanceClient.Hash, maintenanceOf))
	return err
}
