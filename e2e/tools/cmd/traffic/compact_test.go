package main

import (
	"testing"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/tests/v3/robustness/model"
)

func compaction(call int64, output model.MaybeEtcdResponse) porcupine.Operation {
	request := model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: 5}}
	return porcupine.Operation{Input: request, Output: output, Call: call, Return: call + 1}
}

var (
	unanswered = model.MaybeEtcdResponse{Error: "timeout"}
	compacted  = model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Compact: &model.CompactResponse{}}}
	refused    = model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{ClientError: mvcc.ErrCompacted.Error()}}
)

func TestACompactionThatWasAskedForAgainAndMadeHadNotHappened(t *testing.T) {
	left := settleCompactions([]porcupine.Operation{compaction(1, unanswered), compaction(3, compacted)})
	if len(left) != 1 || left[0].Call != 3 {
		t.Fatalf("%+v", left)
	}
}

func TestACompactionThatWasAskedForAgainAndRefusedHadHappened(t *testing.T) {
	left := settleCompactions([]porcupine.Operation{
		compaction(1, unanswered), compaction(3, unanswered), compaction(5, refused),
	})
	if len(left) != 2 || left[0].Call != 1 || left[0].Return != 6 || left[1].Call != 5 {
		t.Fatalf("%+v", left)
	}
	if output := left[0].Output.(model.MaybeEtcdResponse); !output.Persisted || output.Error != "" {
		t.Fatalf("%+v", output)
	}
}
