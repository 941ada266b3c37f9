package main

import (
	"errors"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

func (p *probe) askRangeStreams() {
	prefix := func(option func(*pb.RangeRequest)) *pb.RangeRequest {
		request := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
		option(request)
		return request
	}
	p.askRangeStream("k*", prefix(func(*pb.RangeRequest) {}))
	p.askRangeStream("k* limit 25", prefix(func(r *pb.RangeRequest) { r.Limit = 25 }))
	p.askRangeStream("k* rev pinned", prefix(func(r *pb.RangeRequest) { r.Revision = 6 }))
	p.askRangeStream("k* count", prefix(func(r *pb.RangeRequest) { r.CountOnly = true }))
	p.askRangeStream("empty", &pb.RangeRequest{Key: []byte("zzzz"), RangeEnd: []byte("zzzzz")})
	p.askRangeStream("sort mod", prefix(func(r *pb.RangeRequest) {
		r.SortTarget, r.SortOrder = pb.RangeRequest_MOD, pb.RangeRequest_DESCEND
	}))
	p.askRangeStream("min mod", prefix(func(r *pb.RangeRequest) { r.MinModRevision = 1 }))
	p.askRangeStream("compacted", prefix(func(r *pb.RangeRequest) { r.Revision = 2 }))
	p.askRangeStream("future", prefix(func(r *pb.RangeRequest) { r.Revision = 99999 }))
	p.askRangeStream("empty key", &pb.RangeRequest{})
}

// askRangeStream answers with a line a chunk and one for the end of the stream.
func (p *probe) askRangeStream(name string, request *pb.RangeRequest) {
	stream, err := p.KV.RangeStream(p.ctx, request)
	if err != nil {
		p.answer("rangestream "+name, outcome(err))
		return
	}
	for chunk := 1; ; chunk++ {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			p.answer("rangestream "+name, "EOF")
			return
		}
		if err != nil {
			p.answer("rangestream "+name, outcome(err))
			return
		}
		part := message.GetRangeResponse()
		p.answer(fmt.Sprintf("rangestream %s chunk%d", name, chunk), "kvs=", len(part.GetKvs()),
			" hdr=", part.GetHeader(), " more=", part.GetMore(), " count=", part.GetCount())
	}
}

// askEdge asks what is decided before a request reaches the store.
func (p *probe) askEdge() {
	health := healthpb.NewHealthClient(p.Conn)
	serving, err := health.Check(p.ctx, &healthpb.HealthCheckRequest{})
	p.answer("health", outcome(err), " ", serving)
	serving, err = health.Check(p.ctx, &healthpb.HealthCheckRequest{Service: "etcdserverpb.KV"})
	p.answer("health KV", outcome(err), " ", serving)

	invoke := func(method string) string {
		return outcome(p.Conn.Invoke(p.ctx, method, &pb.RangeRequest{}, &pb.RangeResponse{}))
	}
	p.answer("unknown method", invoke("/etcdserverpb.KV/Nope"))
	p.answer("reflection", invoke("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"))

	// The Go client itself refuses this header; the line shows that the connection survives.
	ctx := metadata.AppendToOutgoingContext(p.ctx, "client-api-version", "\xff")
	_, err = p.KV.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	p.answer("bad client version md", outcome(err))
}

func (p *probe) askSnapshot() {
	stream, err := p.Maintenance.Snapshot(p.ctx, &pb.SnapshotRequest{})
	p.answer("snapshot open", outcome(err))
	if err != nil {
		return
	}
	messages, bytes := 0, 0
	last := &pb.SnapshotResponse{}
	for {
		message, err := stream.Recv()
		if err != nil {
			p.answer("snapshot end", outcome(err), " msgs=", messages, " bytes=", bytes,
				" mod512=", bytes%512, " lastlen=", len(last.Blob), " ver=", last.Version,
				" hdr=", last.Header, " remaining=", last.RemainingBytes)
			return
		}
		messages++
		bytes += len(message.Blob)
		last = message
	}
}
