package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
)

func put(value string) model.EtcdRequest {
	options := model.PutOptions{Key: "a", Value: model.ToValueOrHash(value)}
	operation := model.EtcdOperation{Type: model.PutOperation, Put: options}
	return model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{operation}}}
}

func putAt(revision int64) model.MaybeEtcdResponse {
	txn := &model.TxnResponse{Results: []model.EtcdOperationResult{{}}}
	return model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Txn: txn, Revision: revision}}
}

func get() model.EtcdRequest {
	return model.EtcdRequest{Type: model.Range, Range: &model.RangeRequest{RangeOptions: model.RangeOptions{Start: "a"}}}
}

func seenAt(revision int64, kvs ...model.KeyValue) model.MaybeEtcdResponse {
	seen := &model.RangeResponse{KVs: append([]model.KeyValue{}, kvs...), Count: int64(len(kvs))}
	return model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Range: seen, Revision: revision}}
}

func kv(value string, revision, version int64) model.KeyValue {
	state := model.ValueRevision{Value: model.ToValueOrHash(value), ModRevision: revision, Version: version}
	return model.KeyValue{Key: "a", ValueRevision: state}
}

func event(value string, revision int64) model.WatchEvent {
	put := model.Event{Type: model.PutOperation, Key: "a", Value: model.ToValueOrHash(value)}
	return model.WatchEvent{PersistedEvent: model.PersistedEvent{Event: put, Revision: revision, IsCreate: revision == 2}}
}

// history is that of two puts, "1" and then "2", with one read after them and one watch of both.
func history(t *testing.T, read model.MaybeEtcdResponse, events ...model.WatchEvent) string {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "client-0", "operations.json"),
		porcupine.Operation{Input: get(), Call: 1, Output: seenAt(1), Return: 2},
		porcupine.Operation{Input: put("1"), Call: 10, Output: putAt(2), Return: 20},
		porcupine.Operation{Input: put("2"), Call: 30, Output: putAt(3), Return: 40},
		porcupine.Operation{Input: get(), Call: 50, Output: read, Return: 60})
	progress := model.WatchResponse{IsProgressNotify: true, Revision: 3}
	write(t, filepath.Join(dir, "client-1", "watch.json"), model.WatchOperation{
		Request:   model.WatchRequest{Key: "a", Revision: 1},
		Responses: []model.WatchResponse{{Events: events, Revision: 3}, progress},
	})
	write(t, filepath.Join(dir, "persisted.json"), put("1"), put("2"))
	return dir
}

func write(t *testing.T, path string, values ...any) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, value := range values {
		if err := json.NewEncoder(file).Encode(value); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARightHistoryPasses(t *testing.T) {
	if err := judge(history(t, seenAt(3, kv("2", 3, 2)), event("1", 2), event("2", 3))); err != nil {
		t.Fatal(err)
	}
}

func TestAStaleReadIsFoundAndDrawn(t *testing.T) {
	dir := history(t, seenAt(2, kv("1", 2, 1)), event("1", 2), event("2", 3))
	if err := judge(dir); err == nil || !strings.Contains(err.Error(), "illegal") {
		t.Fatalf("a stale read passed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "history.html")); err != nil {
		t.Fatal(err)
	}
}

func TestAMissedEventIsFound(t *testing.T) {
	err := judge(history(t, seenAt(3, kv("2", 3, 2)), event("1", 2)))
	if err == nil || !strings.Contains(err.Error(), "Reliable") {
		t.Fatalf("a watch that missed an event passed: %v", err)
	}
}
