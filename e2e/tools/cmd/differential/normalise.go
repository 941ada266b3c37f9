package main

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// What is not compared, and nothing else:
//   - cluster and member ids and the Raft term (that they are set is compared), Hash;
//   - server-chosen lease ids (leases.go);
//   - remaining TTLs within one second (align);
//   - order among equals under a sort by anything but the key, and so which of the equals at the
//     end of a limited page are on it;
//   - order of the keys in LeaseTimeToLive: etcd walks a Go map;
//   - how revisions are grouped into watch answers (watch.go).
//
// Requests whose answers hold Raft indexes or sizes (Status, Snapshot) are not asked.

// set stands for an id or a term that is not zero.
const set = 1

type withHeader interface{ GetHeader() *pb.ResponseHeader }

func normalise(request proto.Message, a answer) {
	for _, m := range a.messages {
		if h, ok := m.(withHeader); ok {
			normaliseHeader(h.GetHeader())
		}
		switch m := m.(type) {
		case *pb.RangeResponse:
			if r, ok := request.(*pb.RangeRequest); ok {
				normaliseRange(r, m)
			}
		case *pb.RangeStreamResponse:
			normaliseHeader(m.GetRangeResponse().GetHeader())
		case *pb.TxnResponse:
			normaliseTxn(request.(*pb.TxnRequest), m)
		case *pb.LeaseTimeToLiveResponse:
			slices.SortFunc(m.Keys, bytes.Compare)
		case *pb.HashResponse:
			m.Hash = 0
		}
	}
}

func normaliseHeader(h *pb.ResponseHeader) {
	if h == nil {
		return
	}
	for _, id := range []*uint64{&h.ClusterId, &h.MemberId, &h.RaftTerm} {
		if *id != 0 {
			*id = set
		}
	}
}

func normaliseTxn(request *pb.TxnRequest, response *pb.TxnResponse) {
	ops := request.Failure
	if response.Succeeded {
		ops = request.Success
	}
	if len(ops) != len(response.Responses) {
		return // a difference of its own if only one side does it
	}
	for i, op := range ops {
		switch {
		case op.GetRequestRange() != nil && response.Responses[i].GetResponseRange() != nil:
			normaliseRange(op.GetRequestRange(), response.Responses[i].GetResponseRange())
		case op.GetRequestTxn() != nil && response.Responses[i].GetResponseTxn() != nil:
			normaliseTxn(op.GetRequestTxn(), response.Responses[i].GetResponseTxn())
		}
	}
}

// normaliseRange puts the equals of a sorted answer into the order of their keys. Of the last
// equals on a page that ends early only their number stays: which of them are on it is chance.
func normaliseRange(request *pb.RangeRequest, response *pb.RangeResponse) {
	compare := comparison(request)
	if compare == nil || len(response.Kvs) == 0 {
		return
	}
	kvs := response.Kvs
	last := kvs[len(kvs)-1]
	for start := 0; start < len(kvs); {
		end := start + 1
		for end < len(kvs) && compare(kvs[start], kvs[end]) == 0 {
			end++
		}
		equals := kvs[start:end]
		if response.More && compare(equals[0], last) == 0 {
			for i := range equals {
				equals[i] = onlyTarget(request.SortTarget, equals[i])
			}
		}
		slices.SortStableFunc(equals, func(x, y *mvccpb.KeyValue) int {
			return bytes.Compare(x.Key, y.Key)
		})
		start = end
	}
}

// comparison is how the server sorts, or nil if it sorts by key. Values that keys_only hides are
// all equal here.
func comparison(request *pb.RangeRequest) func(x, y *mvccpb.KeyValue) int {
	switch request.SortTarget {
	case pb.RangeRequest_VERSION:
		return func(x, y *mvccpb.KeyValue) int { return cmp.Compare(x.Version, y.Version) }
	case pb.RangeRequest_CREATE:
		return func(x, y *mvccpb.KeyValue) int { return cmp.Compare(x.CreateRevision, y.CreateRevision) }
	case pb.RangeRequest_MOD:
		return func(x, y *mvccpb.KeyValue) int { return cmp.Compare(x.ModRevision, y.ModRevision) }
	case pb.RangeRequest_VALUE:
		return func(x, y *mvccpb.KeyValue) int { return bytes.Compare(x.Value, y.Value) }
	}
	return nil
}

func onlyTarget(target pb.RangeRequest_SortTarget, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	switch target {
	case pb.RangeRequest_VERSION:
		return &mvccpb.KeyValue{Version: kv.Version}
	case pb.RangeRequest_CREATE:
		return &mvccpb.KeyValue{CreateRevision: kv.CreateRevision}
	case pb.RangeRequest_MOD:
		return &mvccpb.KeyValue{ModRevision: kv.ModRevision}
	}
	return &mvccpb.KeyValue{Value: kv.Value}
}

// align lets remaining TTLs differ by a second. Small ones (-1 and 0 say that there is no such
// lease) have to be equal; the leases of this test live for hours.
func align(a, b answer) {
	if len(a.messages) != len(b.messages) {
		return
	}
	for i := range a.messages {
		switch x := a.messages[i].(type) {
		case *pb.LeaseTimeToLiveResponse:
			if y, ok := b.messages[i].(*pb.LeaseTimeToLiveResponse); ok {
				alignTTL(x.TTL, &y.TTL)
			}
		case *pb.LeaseKeepAliveResponse:
			if y, ok := b.messages[i].(*pb.LeaseKeepAliveResponse); ok {
				alignTTL(x.TTL, &y.TTL)
			}
		}
	}
}

func alignTTL(a int64, b *int64) {
	if a > 2 && *b >= a-1 && *b <= a+1 {
		*b = a
	}
}

var deterministic = proto.MarshalOptions{Deterministic: true}

func equal(a, b answer) bool {
	if len(a.messages) != len(b.messages) {
		return false
	}
	x, _ := status.FromError(a.err)
	y, _ := status.FromError(b.err)
	if x.Code() != y.Code() || x.Message() != y.Message() {
		return false
	}
	for i := range a.messages {
		if !equalMessages(a.messages[i], b.messages[i]) {
			return false
		}
	}
	return true
}

// equalMessages compares encodings: much faster than proto.Equal, and fields that one side's
// stubs do not know count too.
func equalMessages(a, b proto.Message) bool {
	x, errX := deterministic.Marshal(a)
	y, errY := deterministic.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func text(m proto.Message) string {
	if m == nil {
		return ""
	}
	return prototext.MarshalOptions{}.Format(m)
}
