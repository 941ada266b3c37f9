package main

import (
	"fmt"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// same normalises and compares two answers as the run does.
func same(request proto.Message, a, b answer) bool {
	normalise(request, a)
	normalise(request, b)
	align(a, b)
	return equal(a, b)
}

func versions(keysAndVersions ...any) *pb.RangeResponse {
	r := &pb.RangeResponse{}
	for i := 0; i < len(keysAndVersions); i += 2 {
		r.Kvs = append(r.Kvs, &mvccpb.KeyValue{
			Key:     []byte(keysAndVersions[i].(string)),
			Version: int64(keysAndVersions[i+1].(int)),
		})
	}
	return r
}

func TestEqualsMayStandInAnyOrderUnderASortByVersion(t *testing.T) {
	byVersion := &pb.RangeRequest{SortTarget: pb.RangeRequest_VERSION}
	byKey := &pb.RangeRequest{}
	cases := []struct {
		name    string
		request *pb.RangeRequest
		a, b    *pb.RangeResponse
		more    bool
		same    bool
	}{
		{"equals swapped", byVersion, versions("x", 1, "y", 1, "z", 2), versions("y", 1, "x", 1, "z", 2), false, true},
		{"others swapped", byVersion, versions("x", 1, "z", 2), versions("z", 2, "x", 1), false, false},
		{"swapped under a sort by key", byKey, versions("x", 1, "y", 1), versions("y", 1, "x", 1), false, false},
		{"another equal on a full page", byVersion, versions("w", 0, "x", 1), versions("w", 0, "y", 1), true, true},
		{"another equal on the last page", byVersion, versions("w", 0, "x", 1), versions("w", 0, "y", 1), false, false},
		{"another key before the last equals", byVersion, versions("w", 0, "x", 1), versions("v", 0, "x", 1), true, false},
		{"fewer equals on a full page", byVersion, versions("x", 1, "y", 1), versions("x", 1), true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.a.More, c.b.More = c.more, c.more
			got := same(c.request, one(c.a, nil), one(c.b, nil))
			if got != c.same {
				t.Errorf("same is %v", got)
			}
		})
	}
}

func TestRangesInNestedTransactionsAreNormalisedByTheBranchTaken(t *testing.T) {
	request := &pb.TxnRequest{
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
			Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{SortTarget: pb.RangeRequest_VERSION},
			}}},
		}}}},
	}
	response := func(r *pb.RangeResponse) *pb.TxnResponse {
		return &pb.TxnResponse{Succeeded: true, Responses: []*pb.ResponseOp{{
			Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{
				Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseRange{ResponseRange: r}}},
			}},
		}}}
	}
	a, b := response(versions("x", 1, "y", 1)), response(versions("y", 1, "x", 1))
	if !same(request, one(a, nil), one(b, nil)) {
		t.Error("equals in another order are a difference")
	}
	a, b = response(versions("x", 1)), response(versions("y", 1))
	if same(request, one(a, nil), one(b, nil)) {
		t.Error("another key is no difference")
	}
}

func TestIdsMayDifferButNotBeMissingAndRevisionsMayNotDiffer(t *testing.T) {
	put := func(cluster, member, term uint64, revision int64) answer {
		return one(&pb.PutResponse{Header: &pb.ResponseHeader{
			ClusterId: cluster, MemberId: member, RaftTerm: term, Revision: revision,
		}}, nil)
	}
	request := &pb.PutRequest{}
	if !same(request, put(1, 2, 3, 4), put(5, 6, 7, 4)) {
		t.Error("other ids are a difference")
	}
	if same(request, put(1, 2, 3, 4), put(1, 2, 0, 4)) {
		t.Error("a missing term is no difference")
	}
	if same(request, put(1, 2, 3, 4), put(1, 2, 3, 5)) {
		t.Error("another revision is no difference")
	}
}

func TestErrorsAreComparedByCodeAndText(t *testing.T) {
	failed := func(code codes.Code, text string) answer { return answer{err: status.Error(code, text)} }
	request := &pb.PutRequest{}
	if !same(request, failed(codes.NotFound, "x"), failed(codes.NotFound, "x")) {
		t.Error("the same error is a difference")
	}
	if same(request, failed(codes.NotFound, "x"), failed(codes.NotFound, "y")) {
		t.Error("another text is no difference")
	}
	if same(request, failed(codes.NotFound, "x"), failed(codes.Unknown, "x")) {
		t.Error("another code is no difference")
	}
	if same(request, failed(codes.NotFound, "x"), one(&pb.PutResponse{}, nil)) {
		t.Error("an error and an answer are no difference")
	}
}

func TestTwoServersThatAreDownDoNotAgree(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded} {
		if !unanswered(status.Error(code, "")) {
			t.Errorf("%s counts as an answer", code)
		}
	}
	if unanswered(status.Error(codes.InvalidArgument, "")) || unanswered(errLeaseID) || unanswered(nil) {
		t.Error("an answer counts as none")
	}
}

func TestRemainingTTLsMayDifferByASecond(t *testing.T) {
	ttl := func(seconds int64) answer { return one(&pb.LeaseTimeToLiveResponse{TTL: seconds}, nil) }
	request := &pb.LeaseTimeToLiveRequest{}
	for _, c := range []struct {
		a, b int64
		same bool
	}{{100, 100, true}, {100, 99, true}, {100, 101, true}, {100, 98, false}, {0, 1, false}, {-1, 0, false}} {
		if got := same(request, ttl(c.a), ttl(c.b)); got != c.same {
			t.Errorf("%d and %d: same is %v", c.a, c.b, got)
		}
	}
}

func TestASeedRepeatsItsRequests(t *testing.T) {
	draw := func() []string {
		g := newGenerator(rand.New(rand.NewPCG(7, 0)))
		g.revision = 50
		var requests []string
		for g.operationNumber = range 500 {
			for _, m := range []proto.Message{
				g.rangeRequest(), g.rangeStreamRequest(), g.putRequest(), g.deleteRequest(), g.txnRequest(),
			} {
				encoded, err := deterministic.Marshal(m)
				requests = append(requests, fmt.Sprint(encoded, err))
			}
		}
		return requests
	}
	first, second := draw(), draw()
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("request %d differs", i)
		}
	}
}

func TestPrefixEndIsTheFirstKeyAfterThePrefix(t *testing.T) {
	for prefix, want := range map[string]string{"a": "b", "a\xff": "b", "\xff": "\x00", "k/": "k0"} {
		if got := string(prefixEnd([]byte(prefix))); got != want {
			t.Errorf("of %q: %q", prefix, got)
		}
	}
}

func TestAStreamRefusesAHeaderBehindItsEvents(t *testing.T) {
	s := &watchStream{events: map[int64][]*mvccpb.Event{}, canceled: map[int64][]*pb.WatchResponse{}}
	event := &mvccpb.Event{Kv: &mvccpb.KeyValue{ModRevision: 9}}
	behind := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 8}, Events: []*mvccpb.Event{event}}
	if s.sort(behind) == nil {
		t.Error("accepted")
	}
	behind.Header.Revision = 9
	if err := s.sort(behind); err != nil || len(s.events[0]) != 1 {
		t.Errorf("%v, %d events", err, len(s.events[0]))
	}
}
