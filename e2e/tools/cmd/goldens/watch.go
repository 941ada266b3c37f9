package main

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// openWatch opens a watch stream; where that fails, nil, and the lines that need it say so.
func (p *probe) openWatch() pb.Watch_WatchClient {
	stream, err := p.Watch.Watch(p.ctx)
	if err != nil {
		return nil
	}
	return stream
}

// receive answers name with the next message of the stream.
func (p *probe) receive(name string, stream pb.Watch_WatchClient) {
	if stream == nil {
		p.answer(name, "no watch stream")
		return
	}
	message, err := stream.Recv()
	p.answer(name, outcome(err), " ", message)
}

// create sends a create request and answers name with the next message.
func (p *probe) create(name string, stream pb.Watch_WatchClient, request *pb.WatchCreateRequest) {
	p.send(stream, &pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request},
	})
	p.receive(name, stream)
}

func (p *probe) send(stream pb.Watch_WatchClient, request *pb.WatchRequest) {
	if stream != nil {
		// A stream that cannot send cannot receive either: receive reports why.
		_ = stream.Send(request)
	}
}

func (p *probe) askWatches() {
	stream := p.openWatch()
	p.create("watch created", stream, &pb.WatchCreateRequest{
		Key: []byte("L"), RangeEnd: []byte("M"), PrevKv: true,
	})
	before, _ := p.KV.Range(p.ctx, &pb.RangeRequest{Key: []byte("a")})
	revoked, err := p.Lease.LeaseRevoke(p.ctx, &pb.LeaseRevokeRequest{ID: 77})
	p.answer("revoke 77", outcome(err),
		" revBefore=", before.GetHeader().GetRevision(), " hdr=", revoked.GetHeader().GetRevision())
	p.receive("watch events on revoke", stream)
	p.send(stream, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{},
	}})
	p.receive("progress resp", stream)

	key := []byte("a")
	p.create("watch rev -1", stream, &pb.WatchCreateRequest{Key: key, StartRevision: -1})
	p.create("watch inverted", stream, &pb.WatchCreateRequest{Key: []byte("z"), RangeEnd: key})
	p.create("watch id 5", stream, &pb.WatchCreateRequest{Key: key, WatchId: 5})
	p.create("watch id 5 dup", stream, &pb.WatchCreateRequest{Key: key, WatchId: 5})
	p.send(stream, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: 5},
	}})
	p.receive("cancel 5", stream)
	p.create("watch future", stream, &pb.WatchCreateRequest{Key: []byte("fut"), StartRevision: 100000})
	// Nothing may arrive for this write; what does would show in no line, only the revision counts.
	_, _ = p.KV.Put(p.ctx, &pb.PutRequest{Key: []byte("fut"), Value: []byte("1")})
}

func (p *probe) askCompactedWatch() {
	stream := p.openWatch()
	p.create("watch compacted #1", stream, &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2})
	p.receive("watch compacted #2", stream)
}
