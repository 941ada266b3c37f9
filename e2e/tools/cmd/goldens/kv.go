package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (p *probe) askReadsAndWrites() {
	read, err := p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("nope")})
	p.answer("empty store range", outcome(err), " hdr=", read.GetHeader())
	written, err := p.KV.Put(p.ctx, &pb.PutRequest{Key: []byte("a"), Value: []byte("1")})
	p.answer("first put", outcome(err), " rev=", written.GetHeader().GetRevision())
	deleted, err := p.KV.DeleteRange(p.ctx, &pb.DeleteRangeRequest{Key: []byte("zz")})
	p.answer("delete missing", outcome(err),
		" rev=", deleted.GetHeader().GetRevision(), " deleted=", deleted.GetDeleted())
	txn, err := p.KV.Txn(p.ctx, then(put("b", "1"), rangeAt("b", 0), put("c", "1"), deleteRange("a", "")))
	p.answer("txn put,range,put,del", outcome(err), " resp=", txn)
	txn, err = p.KV.Txn(p.ctx, &pb.TxnRequest{})
	p.answer("empty txn", outcome(err), " resp=", txn)
}

// askTxn asks for nothing but whether the transaction is accepted.
func (p *probe) askTxn(name string, ops ...*pb.RequestOp) {
	_, err := p.KV.Txn(p.ctx, then(ops...))
	p.answer(name, outcome(err))
}

func (p *probe) askTxnLimits() {
	p.askTxn("dup put", put("x", "1"), put("x", "2"))
	p.askTxn("put+del same key", put("x", "1"), deleteRange("x", ""))
	p.askTxn("delrange covering put", deleteRange("d", "z"), put("x", "1"))
	p.askTxn("del+del same key", deleteRange("x", ""), deleteRange("x", ""))
	p.askTxn("nested dup put", nested(then(put("x", "1"))), put("x", "1"))
	p.askTxn("nested then/else same key", nested(&pb.TxnRequest{
		Success: []*pb.RequestOp{put("x", "1")},
		Failure: []*pb.RequestOp{put("x", "2")},
	}))
	p.askTxn("nil op", &pb.RequestOp{})

	// etcd's default is 128 operations, and a nested transaction gets what its parent left.
	var puts []*pb.RequestOp
	for i := range 129 {
		puts = append(puts, put(fmt.Sprint("k", i), "v"))
	}
	p.askTxn("129 ops", puts...)
	p.askTxn("128 ops", puts[:128]...)
	last := nested(then(put("n", "1"), put("n2", "1")))
	p.askTxn("128 ops incl nested w/2", append(append([]*pb.RequestOp{}, puts[:127]...), last)...)
}

func (p *probe) askBadRequests() {
	_, err := p.KV.Range(p.ctx, &pb.RangeRequest{})
	p.answer("range empty key", outcome(err))
	askPut := func(name string, request *pb.PutRequest) {
		_, err := p.KV.Put(p.ctx, request)
		p.answer(name, outcome(err))
	}
	key := []byte("q")
	askPut("put empty key", &pb.PutRequest{})
	askPut("ignore_value missing", &pb.PutRequest{Key: key, IgnoreValue: true})
	askPut("ignore_value + value", &pb.PutRequest{Key: key, IgnoreValue: true, Value: []byte("x")})
	askPut("ignore_lease + lease", &pb.PutRequest{Key: key, IgnoreLease: true, Lease: 5})
	askPut("put unknown lease", &pb.PutRequest{Key: key, Lease: 12345})
}

func (p *probe) askRanges() {
	_, err := p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("a"), Revision: 99999})
	p.answer("future rev", outcome(err))
	read, err := p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("a"), Revision: -5})
	p.answer("neg rev", outcome(err), " n=", len(read.GetKvs()))
	read, err = p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("z"), RangeEnd: []byte("a")})
	p.answer("inverted range", outcome(err), " ", read)

	askPage := func(name string, option func(*pb.RangeRequest)) {
		request := everything()
		option(request)
		page, err := p.KV.Range(p.ctx, request)
		p.answer(name, outcome(err),
			" n=", len(page.GetKvs()), " more=", page.GetMore(), " count=", page.GetCount())
	}
	askPage("all limit 3", func(r *pb.RangeRequest) { r.Limit = 3 })
	askPage("all limit -3", func(r *pb.RangeRequest) { r.Limit = -3 })
	askPage("count_only limit 3", func(r *pb.RangeRequest) { r.CountOnly, r.Limit = true, 3 })
	askPage("min_mod limit 2", func(r *pb.RangeRequest) { r.MinModRevision, r.Limit = 5, 2 })

	_, err = p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("a"), SortOrder: 9})
	p.answer("bad sort order", outcome(err))
}

func (p *probe) askCompaction() {
	compacted, err := p.KV.Compact(p.ctx, &pb.CompactionRequest{Revision: 4})
	p.answer("compact 4", outcome(err), " hdr=", compacted.GetHeader())
	_, err = p.KV.Compact(p.ctx, &pb.CompactionRequest{Revision: 4})
	p.answer("compact 4 again", outcome(err))
	_, err = p.KV.Compact(p.ctx, &pb.CompactionRequest{Revision: 99999})
	p.answer("compact future", outcome(err))
	_, err = p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("a"), Revision: 3})
	p.answer("range rev3 after compact 4", outcome(err))
	_, err = p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("a"), Revision: 4})
	p.answer("range rev4 after compact 4", outcome(err))
	p.askTxn("txn range compacted", rangeAt("a", 2))
	p.askCompactedWatch()
	hash, err := p.Maintenance.HashKV(p.ctx, &pb.HashKVRequest{Revision: 3})
	p.answer("hashkv compacted", outcome(err), hash)
	hash, err = p.Maintenance.HashKV(p.ctx, &pb.HashKVRequest{})
	p.answer("hashkv 0", outcome(err), hash)
}

func (p *probe) askRequestSizes() {
	const requestBytesMax = 1572864 // etcd's --max-request-bytes
	askPut := func(name string, valueBytes int) {
		_, err := p.KV.Put(p.ctx, &pb.PutRequest{Key: []byte("big"), Value: make([]byte, valueBytes)})
		p.answer(name, outcome(err))
	}
	askPut("put 1.5MiB-100", requestBytesMax-100)
	askPut("put 1.5MiB", requestBytesMax)
	askPut("put 3MiB", 3<<20)
}
