package main

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func (p *probe) askLeases() {
	p.askLeaseGrants()
	p.askLeasedKeys()

	ttl, err := p.Lease.LeaseTimeToLive(p.ctx, &pb.LeaseTimeToLiveRequest{ID: 77, Keys: true})
	p.answer("ttl 77", outcome(err), " ", ttl)
	ttl, err = p.Lease.LeaseTimeToLive(p.ctx, &pb.LeaseTimeToLiveRequest{ID: 999})
	p.answer("ttl missing", outcome(err), " ", ttl)
	_, err = p.Lease.LeaseRevoke(p.ctx, &pb.LeaseRevokeRequest{ID: 999})
	p.answer("revoke missing", outcome(err))
	p.askKeepAlive()
}

func (p *probe) askLeaseGrants() {
	grant := func(ttl, id int64) (*pb.LeaseGrantResponse, string) {
		granted, err := p.Lease.LeaseGrant(p.ctx, &pb.LeaseGrantRequest{TTL: ttl, ID: id})
		return granted, outcome(err)
	}
	granted, result := grant(1, 0)
	p.answer("lease ttl 1", result, " ", granted.GetTTL(),
		" idpos=", granted.GetID() > 0, " hdrrev=", granted.GetHeader().GetRevision())
	granted, result = grant(0, 0)
	p.answer("lease ttl 0", result, " ", granted.GetTTL())
	granted, result = grant(-7, 0)
	p.answer("lease ttl -7", result, " ", granted.GetTTL())
	_, result = grant(9000000001, 0)
	p.answer("lease ttl too large", result)
	granted, result = grant(100, 77)
	p.answer("lease id 77", result, " ", granted.GetTTL())
	_, result = grant(100, 77)
	p.answer("lease id 77 again", result)
	granted, result = grant(100, -9)
	p.answer("lease id -9", result, " ", granted.GetID())
}

func (p *probe) askLeasedKeys() {
	for _, key := range []string{"L1", "L2"} {
		// A failure shows in the reads of the keys below.
		_, _ = p.KV.Put(p.ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: 77})
	}
	read := func(request *pb.RangeRequest) *mvccpb.KeyValue {
		request.Key = []byte("L1")
		found, _ := p.KV.Range(p.ctx, request)
		if len(found.GetKvs()) == 0 {
			return nil
		}
		return found.Kvs[0]
	}
	p.answer("kv with lease", read(&pb.RangeRequest{}))
	p.answer("kv with lease keys_only", read(&pb.RangeRequest{KeysOnly: true}))
	p.answer("kv with lease keys_only sort VALUE",
		read(&pb.RangeRequest{KeysOnly: true, SortTarget: pb.RangeRequest_VALUE}))
}

func (p *probe) askKeepAlive() {
	stream, err := p.Lease.LeaseKeepAlive(p.ctx)
	if err != nil {
		p.answer("keepalive missing", outcome(err))
		return
	}
	defer stream.CloseSend()
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 999}); err != nil {
		p.answer("keepalive missing", outcome(err))
		return
	}
	alive, err := stream.Recv()
	p.answer("keepalive missing", outcome(err), " ", alive)
}
