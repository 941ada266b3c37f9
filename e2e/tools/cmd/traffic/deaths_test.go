package main

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

func openDelete(key string) porcupine.Operation {
	wanted := model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: key}}
	txn := &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{wanted}}
	request := model.EtcdRequest{Type: model.Txn, Txn: txn}
	return porcupine.Operation{Input: request, Output: model.MaybeEtcdResponse{Error: "timeout"}, Call: 1, Return: 2}
}

func openRevocation(lease int64) porcupine.Operation {
	request := model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: lease}}
	return porcupine.Operation{Input: request, Output: model.MaybeEtcdResponse{Error: "timeout"}, Call: 1, Return: 2}
}

// settled is what is left of operations beside what was seen, up to revision 5.
func settled(t *testing.T, seen *timeline, operations ...porcupine.Operation) []porcupine.Operation {
	t.Helper()
	_, deaths, err := seen.persisted(5, []report.ClientReport{{KeyValue: operations}})
	if err != nil {
		t.Fatal(err)
	}
	return deaths.settle(operations)
}

func mustHaveHappenedAt(t *testing.T, operation porcupine.Operation, revision int64) {
	t.Helper()
	output := operation.Output.(model.MaybeEtcdResponse)
	if !output.Persisted || output.PersistedRevision != revision || operation.Return != math.MaxInt64 {
		t.Fatalf("%+v should have happened at %d", operation, revision)
	}
}

func TestADeleteThatNobodySawDidNotHappen(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{put(4, "c", "3", 0), gone(5, "c")})
	left := settled(t, seen, openDelete("c"), openDelete("d"))
	if len(left) != 1 {
		t.Fatalf("%+v", left)
	}
	mustHaveHappenedAt(t, left[0], 5)
}

func TestARevocationIsSettledToo(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{put(4, "c", "3", 0), gone(5, "a"), gone(5, "b")})
	left := settled(t, seen, openRevocation(7), openRevocation(8))
	if len(left) != 1 {
		t.Fatalf("%+v", left)
	}
	mustHaveHappenedAt(t, left[0], 5)
}

func TestWhatMayHaveBeenEitherIsLeftOpen(t *testing.T) {
	seen := leased()
	// The last key of the lease: deleted, or revoked.
	seen.add([]*clientv3.Event{put(4, "b", "3", 0), gone(5, "a")})
	left := settled(t, seen, openDelete("a"), openRevocation(7))
	if len(left) != 2 {
		t.Fatalf("%+v", left)
	}
	for _, operation := range left {
		if operation.Output.(model.MaybeEtcdResponse).Error == "" {
			t.Fatalf("%+v is settled", operation)
		}
	}
}

func TestOfDeletesThatAreAlikeTheFirstIsTheOne(t *testing.T) {
	seen := leased()
	seen.add([]*clientv3.Event{put(4, "c", "3", 0), gone(5, "c")})
	early, late := openDelete("c"), openDelete("c")
	late.Call = 3
	left := settled(t, seen, late, early)
	if len(left) != 1 || left[0].Call != early.Call {
		t.Fatalf("%+v", left)
	}
	mustHaveHappenedAt(t, left[0], 5)
}

func TestAGrantWithoutAnAnswerIsNobodys(t *testing.T) {
	request := model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{}}
	grant := porcupine.Operation{Input: request, Output: model.MaybeEtcdResponse{Error: "timeout"}}
	seen := leased()
	seen.add([]*clientv3.Event{put(4, "c", "3", 0), put(5, "c", "4", 0)})
	if left := settled(t, seen, grant); len(left) != 0 {
		t.Fatalf("%+v", left)
	}
}

func TestATransactionHappenedIfItsPutWasSeen(t *testing.T) {
	open := openDelete("c")
	written := model.EtcdOperation{Type: model.PutOperation}
	written.Put = model.PutOptions{Key: "d", Value: model.ToValueOrHash("9")}
	txn := open.Input.(model.EtcdRequest).Txn
	txn.OperationsOnSuccess = append(txn.OperationsOnSuccess, written)
	// Another one deleted the same key.
	seen := leased()
	seen.add([]*clientv3.Event{put(4, "c", "3", 0), gone(5, "c")})
	if left := settled(t, seen, open); len(left) != 0 {
		t.Fatalf("%+v", left)
	}
	seen = leased()
	seen.add([]*clientv3.Event{put(4, "c", "3", 0), gone(5, "c"), put(5, "d", "9", 0)})
	left := settled(t, seen, open)
	if len(left) != 1 {
		t.Fatalf("%+v", left)
	}
	mustHaveHappenedAt(t, left[0], 5)
}
