package main

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	nestingMax = 3
	// largeTxnOpsMax is above etcd's limit of 128 operations.
	largeTxnOpsMax = 132
)

// txnBuilder draws one transaction. A careful one writes no key twice, so that it is mostly
// valid; of the others etcd refuses many as duplicates.
type txnBuilder struct {
	*generator
	careful bool
	written map[string]bool
}

func (g *generator) txnRequest() *pb.TxnRequest {
	b := &txnBuilder{generator: g, careful: g.chance(80), written: map[string]bool{}}
	switch p := g.IntN(100); {
	case p < 30:
		return b.kubernetesTxn()
	case p < 31:
		return b.largeTxn()
	}
	txn := b.txn(1)
	if holdsDelete(txn) {
		spareEtcd(txn)
	}
	return txn
}

// holdsDelete reports whether any operation at any level is a delete.
func holdsDelete(txn *pb.TxnRequest) bool {
	return slices.ContainsFunc(slices.Concat(txn.Success, txn.Failure), func(op *pb.RequestOp) bool {
		nested := op.GetRequestTxn()
		return op.GetRequestDeleteRange() != nil || nested != nil && holdsDelete(nested)
	})
}

// spareEtcd keeps a bug of etcd 3.7.3 out: its check for duplicate keys does not see that a delete
// with range end "\x00" covers a put of the same transaction; if that put has ignore_value or
// ignore_lease, it finds no previous value any more, and etcd panics, again after each restart.
func spareEtcd(txn *pb.TxnRequest) {
	for _, op := range slices.Concat(txn.Success, txn.Failure) {
		if put := op.GetRequestPut(); put != nil {
			put.IgnoreValue, put.IgnoreLease = false, false
		}
		if nested := op.GetRequestTxn(); nested != nil {
			spareEtcd(nested)
		}
	}
}

// kubernetesTxn is how the apiserver writes: if the key is unchanged, put or delete, else get.
func (b *txnBuilder) kubernetesTxn() *pb.TxnRequest {
	key := b.key()
	write := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: key, Value: b.value(), Lease: b.someLease(10)},
	}}
	if b.chance(15) {
		write = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: key},
		}}
	}
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: key, Target: pb.Compare_MOD,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: b.lastWritten[string(key)]},
		}},
		Success: []*pb.RequestOp{write},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: key},
		}}},
	}
}

// largeTxn has about as many operations as are allowed.
func (b *txnBuilder) largeTxn() *pb.TxnRequest {
	count := 90 + b.IntN(largeTxnOpsMax-90)
	txn := &pb.TxnRequest{}
	for i := range count {
		if b.chance(10) {
			txn.Success = append(txn.Success, b.rangeOp())
			continue
		}
		txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{
				Key:   fmt.Appendf(nil, "bulk/%03d", i%bulkKeys),
				Value: fmt.Appendf(nil, "b%d", b.operationNumber),
			},
		}})
	}
	return txn
}

func (b *txnBuilder) txn(depth int) *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	for range b.IntN(3) {
		txn.Compare = append(txn.Compare, b.compare())
	}
	for range b.IntN(5) {
		txn.Success = append(txn.Success, b.op(depth))
	}
	for range b.IntN(4) {
		txn.Failure = append(txn.Failure, b.op(depth))
	}
	return txn
}

func (b *txnBuilder) op(depth int) *pb.RequestOp {
	switch p := b.IntN(100); {
	case p < 40:
		return b.putOp()
	case p < 58:
		return b.deleteOp()
	case p < 85 || depth == nestingMax:
		return b.rangeOp()
	case p < 99:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: b.txn(depth + 1)}}
	}
	if b.careful {
		return b.rangeOp()
	}
	return &pb.RequestOp{}
}

func (b *txnBuilder) putOp() *pb.RequestOp {
	request := b.putRequest()
	if b.careful {
		// ignore_value and unknown leases fail the whole transaction: seldom here.
		request.IgnoreValue, request.IgnoreLease = false, false
		request.Lease = b.someLease(5)
		if request.Key = b.unwrittenKey(); request.Key == nil {
			return b.rangeOp()
		}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: request}}
}

func (b *txnBuilder) deleteOp() *pb.RequestOp {
	request := b.deleteRequest()
	if b.careful {
		request.RangeEnd = nil
		if request.Key = b.unwrittenKey(); request.Key == nil {
			return b.rangeOp()
		}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: request}}
}

// unwrittenKey is one that this transaction does not write yet, or nil after some tries.
func (b *txnBuilder) unwrittenKey() []byte {
	for range 10 {
		key := b.key()
		if !b.written[string(key)] {
			b.written[string(key)] = true
			return key
		}
	}
	return nil
}

func (b *txnBuilder) rangeOp() *pb.RequestOp {
	request := b.rangeRequest()
	if b.careful {
		// One refused range fails the whole transaction.
		request.SortOrder = max(0, request.SortOrder) % 3
		request.SortTarget = max(0, request.SortTarget)
		if request.Revision < b.compacted || request.Revision > b.revision {
			request.Revision = 0
		}
		if len(request.Key) == 0 {
			request.Key = b.key()
		}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: request}}
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{
		Result: pb.Compare_CompareResult(g.IntN(4)),
		Target: pb.Compare_CompareTarget(g.IntN(5)),
	}
	c.Key, c.RangeEnd = g.span()
	if len(c.Key) == 0 && g.chance(80) {
		c.Key = g.key()
	}
	target := c.Target
	if g.chance(3) {
		target = pb.Compare_CompareTarget(g.IntN(6)) // does not fit the target, or is missing
	}
	setTargetUnion(g, c, target)
	if g.chance(1) {
		c.Target = 9
	}
	if g.chance(1) {
		c.Result = 9
	}
	return c
}

func setTargetUnion(g *generator, c *pb.Compare, target pb.Compare_CompareTarget) {
	switch target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: int64(g.IntN(5))}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.likelyRevision(c.Key)}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.likelyRevision(c.Key)}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.someLease(50)}
	}
}

// likelyRevision is often the one of key.
func (g *generator) likelyRevision(key []byte) int64 {
	if g.chance(50) {
		return g.lastWritten[string(key)]
	}
	return g.Int64N(g.revision + 2)
}
