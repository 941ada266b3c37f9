package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// One message in so many is lied about.
const lieEvery = 50

// A lie is told between clients and members: it changes what is asked or answered.
type lie struct {
	// The request as the member gets it.
	asked func(l *liar, method string, message []byte) ([]byte, error)
	// The answer as the client gets it; nil where it gets none.
	answered func(l *liar, method string, message []byte) ([]byte, error)
}

// Faults of a server that the referee has to find.
var lies = map[string]lie{
	// Reads of the newest state are of whatever the member has.
	"stale-reads": {asked: staleReads, answered: asItIs},
	// Some responses of watches lack their last revision.
	"dropped-events": {asked: asItIs, answered: droppedEvents},
	// Some puts are acknowledged and write something else.
	"changed-writes": {asked: changedWrites, answered: asItIs},
}

func lieNames() []string { return slices.Sorted(maps.Keys(lies)) }

func asItIs(_ *liar, _ string, message []byte) ([]byte, error) { return message, nil }

func staleReads(_ *liar, method string, message []byte) ([]byte, error) {
	if method != pb.KV_Range_FullMethodName && method != pb.KV_RangeStream_FullMethodName {
		return message, nil
	}
	return changed(message, &pb.RangeRequest{}, func(request *pb.RangeRequest) {
		request.Serializable = true
	})
}

func changedWrites(l *liar, method string, message []byte) ([]byte, error) {
	if method != pb.KV_Put_FullMethodName || !l.isDue() {
		return message, nil
	}
	return changed(message, &pb.PutRequest{}, func(request *pb.PutRequest) {
		request.Value = []byte("lie")
	})
}

func droppedEvents(l *liar, method string, message []byte) ([]byte, error) {
	if method != pb.Watch_Watch_FullMethodName {
		return message, nil
	}
	response := &pb.WatchResponse{}
	if err := proto.Unmarshal(message, response); err != nil {
		return nil, err
	}
	count := len(response.Events)
	// Observers wait for the last write.
	if count == 0 || string(response.Events[count-1].Kv.Key) == lastKey || !l.isDue() {
		return message, nil
	}
	last := response.Events[count-1].Kv.ModRevision
	kept := slices.DeleteFunc(response.Events, func(event *mvccpb.Event) bool { return event.Kv.ModRevision == last })
	if len(kept) == 0 {
		// Without any event it would be a notice of progress.
		return nil, nil
	}
	response.Events = kept
	return proto.Marshal(response)
}

func changed[T proto.Message](message []byte, into T, change func(T)) ([]byte, error) {
	if err := proto.Unmarshal(message, into); err != nil {
		return nil, err
	}
	change(into)
	return proto.Marshal(into)
}

// A liar stands before one member and passes on every call, with its lie.
type liar struct {
	member *grpc.ClientConn
	lie    lie
	count  atomic.Int64
}

func (l *liar) isDue() bool { return l.count.Add(1)%lieEvery == 0 }

// throughLiars returns where clients reach the members through liars, which stand until the process ends.
func throughLiars(endpoints []string, told lie) ([]string, error) {
	for place, endpoint := range endpoints {
		member, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
		if err != nil {
			return nil, err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		between := &liar{member: member, lie: told}
		server := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(between.relay))
		go server.Serve(listener)
		endpoints[place] = listener.Addr().String()
	}
	return endpoints, nil
}

func (l *liar) relay(_ any, inbound grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(inbound)
	ctx, cancel := context.WithCancel(inbound.Context())
	defer cancel()
	if told, has := metadata.FromIncomingContext(ctx); has {
		ctx = metadata.NewOutgoingContext(ctx, told)
	}
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	outbound, err := l.member.NewStream(ctx, both, method)
	if err != nil {
		return err
	}
	go func() {
		defer outbound.CloseSend()
		// Whatever ends it, the answers' side hears of it.
		_ = pass(inbound, outbound, func(message []byte) ([]byte, error) { return l.lie.asked(l, method, message) })
	}()
	return pass(outbound, inbound, func(message []byte) ([]byte, error) { return l.lie.answered(l, method, message) })
}

// A direction of a call.
type stream interface {
	RecvMsg(message any) error
	SendMsg(message any) error
}

// pass carries messages until their source ends; its error is what the call ends with.
func pass(from, to stream, change func([]byte) ([]byte, error)) error {
	for {
		var message []byte
		if err := from.RecvMsg(&message); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		message, err := change(message)
		if err != nil {
			return err
		}
		if message == nil {
			continue
		}
		if err := to.SendMsg(&message); err != nil {
			return err
		}
	}
}

// bytesCodec leaves messages as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (bytesCodec) Unmarshal(data []byte, message any) error {
	// Never nil: a message may be empty.
	*message.(*[]byte) = append([]byte{}, data...)
	return nil
}
