package main

import (
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

func put(revision int64, key, value string, lease int64) *clientv3.Event {
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), Lease: lease, ModRevision: revision}
	return &clientv3.Event{Type: mvccpb.Event_PUT, Kv: kv}
}

func gone(revision int64, key string) *clientv3.Event {
	return &clientv3.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
}

func kinds(requests []model.EtcdRequest) (kinds []model.RequestType) {
	for _, request := range requests {
		kinds = append(kinds, request.Type)
	}
	return kinds
}

func mustBe(t *testing.T, requests []model.EtcdRequest, wanted ...model.RequestType) {
	t.Helper()
	got := kinds(requests)
	if len(got) != len(wanted) {
		t.Fatalf("%v, not %v", got, wanted)
	}
	for place := range wanted {
		if got[place] != wanted[place] {
			t.Fatalf("%v, not %v", got, wanted)
		}
	}
}

func leased() *timeline {
	seen := newTimeline()
	seen.add([]*clientv3.Event{put(2, "a", "1", 7), put(3, "b", "2", 7)})
	return seen
}

func TestAllKeysOfALeaseAreDeletedByItsRevocation(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{gone(4, "a"), gone(4, "b")})
	requests, _, err := seen.persisted(4, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, requests, model.LeaseGrant, model.Txn, model.Txn, model.LeaseRevoke)
}

func TestADeleteThatAClientWasToldOfIsNoRevocation(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{gone(4, "a")})
	// The last key of its lease, deleted by a client.
	seen.add([]*clientv3.Event{gone(5, "b")})
	told := model.TxnResponse{Results: []model.EtcdOperationResult{{Deleted: 1}}}
	response := model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Txn: &told, Revision: 5}}
	request := model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{}}
	operations := []porcupine.Operation{{Input: request, Output: response}}
	requests, _, err := seen.persisted(5, []report.ClientReport{{KeyValue: operations}})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, requests, model.LeaseGrant, model.Txn, model.Txn, model.Txn, model.Txn)
}

func TestADeleteWithoutAnAnswerMayHaveTakenTheLastKeyOfALease(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{put(4, "b", "3", 0), gone(5, "a")})
	wanted := model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: "a"}}
	txn := &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{wanted}}
	request := model.EtcdRequest{Type: model.Txn, Txn: txn}
	operations := []porcupine.Operation{{Input: request, Output: model.MaybeEtcdResponse{Error: "timeout"}}}
	requests, _, err := seen.persisted(5, []report.ClientReport{{KeyValue: operations}})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, requests, model.LeaseGrant, model.Txn, model.Txn, model.Txn, model.Txn)
	revoke := model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: 7}}
	revoked := model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Revision: 5}}
	operations = append(operations, porcupine.Operation{Input: revoke, Output: revoked})
	requests, _, err = seen.persisted(5, []report.ClientReport{{KeyValue: operations}})
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, requests, model.LeaseGrant, model.Txn, model.Txn, model.Txn, model.LeaseRevoke)
}

func TestARevisionThatNobodySawIsToldOf(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{put(5, "a", "3", 0)})
	if seen.wholeUpTo() != 3 {
		t.Fatal("revision 4 is missing")
	}
	if _, _, err := seen.persisted(5, nil); err == nil || !strings.Contains(err.Error(), "revision 4") {
		t.Fatalf("a gap passed: %v", err)
	}
}

func TestMembersThatDifferAreToldOf(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{put(3, "b", "other", 7)})
	if _, _, err := seen.persisted(3, nil); err == nil || !strings.Contains(err.Error(), "differ about revision 3") {
		t.Fatalf("a contradiction passed: %v", err)
	}
}
