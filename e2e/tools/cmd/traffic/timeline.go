package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// A change of one key, as a watch tells it.
type change struct {
	key      string
	value    model.ValueOrHash
	isDelete bool
	isCreate bool
	// The lease that a put attached the key to, or 0.
	lease int64
}

// The order of all that took effect, merged from what observers at all members saw. Every write has a
// revision of its own, so that order is complete where no revision is missing.
type timeline struct {
	mutex sync.Mutex
	// By revision; what one revision changed, in the order of its events.
	changes map[int64][]change
	// Every revision up to this one is in changes, from 2 on.
	whole int64
	// The first revision that two observers were told differently.
	contradiction error
}

func newTimeline() *timeline {
	return &timeline{changes: map[int64][]change{}, whole: 1}
}

// add takes one response of a watch of all keys: whole revisions, as etcd promises.
func (t *timeline) add(events []*clientv3.Event) {
	seen := map[int64][]change{}
	for _, event := range events {
		revision := event.Kv.ModRevision
		seen[revision] = append(seen[revision], change{
			key:      string(event.Kv.Key),
			value:    model.ToValueOrHash(string(event.Kv.Value)),
			isDelete: event.Type == mvccpb.Event_DELETE,
			isCreate: event.IsCreate(),
			lease:    event.Kv.Lease,
		})
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for revision, changes := range seen {
		known, isKnown := t.changes[revision]
		if !isKnown {
			t.changes[revision] = changes
		} else if !reflect.DeepEqual(known, changes) && t.contradiction == nil {
			t.contradiction = fmt.Errorf("members differ about revision %d: %+v, %+v", revision, known, changes)
		}
	}
	for t.changes[t.whole+1] != nil {
		t.whole++
	}
}

// wholeUpTo is the revision up to which nothing is missing.
func (t *timeline) wholeUpTo() int64 {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.whole
}

// persisted returns what etcd's suite reads from write-ahead logs: the requests that took effect, in
// their order, up to the revision last; and who deleted what.
//
// A transaction is what it changed. What deletes all keys of a lease and nothing else is its revocation,
// unless a client's own delete did it, or may have done it.
func (t *timeline) persisted(last int64, reports []report.ClientReport) ([]model.EtcdRequest, *deaths, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.contradiction != nil {
		return nil, nil, t.contradiction
	}
	if t.whole < last {
		return nil, nil, fmt.Errorf("no observer was told of revision %d, but a client of %d", t.whole+1, last)
	}
	deaths := readDeaths(reports)
	requests := t.grants()
	keys := attachments{of: map[string]int64{}, keys: map[int64]map[string]bool{}}
	for revision := int64(2); revision <= t.whole; revision++ {
		changes := t.changes[revision]
		deaths.notePuts(revision, changes)
		lease := keys.revokedBy(changes)
		if lease != 0 && deaths.isRevocation(revision, lease, changes) {
			revoke := &model.LeaseRevokeRequest{LeaseID: lease}
			requests = append(requests, model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: revoke})
		} else {
			deaths.isDelete(revision, lease, changes)
			requests = append(requests, effect(changes))
		}
		keys.follow(changes)
	}
	return requests, deaths, nil
}

// grants come first: to the model it is all one how early a lease is granted.
func (t *timeline) grants() (requests []model.EtcdRequest) {
	leases := map[int64]bool{}
	for _, changes := range t.changes {
		for _, change := range changes {
			if change.lease != 0 {
				leases[change.lease] = true
			}
		}
	}
	for _, lease := range slices.Sorted(maps.Keys(leases)) {
		grant := &model.LeaseGrantRequest{LeaseID: lease}
		requests = append(requests, model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: grant})
	}
	return requests
}

// effect is the transaction without conditions that makes these changes.
func effect(changes []change) model.EtcdRequest {
	operations := make([]model.EtcdOperation, 0, len(changes))
	for _, change := range changes {
		operation := model.EtcdOperation{Type: model.PutOperation}
		if change.isDelete {
			operation.Type = model.DeleteOperation
			operation.Delete = model.DeleteOptions{Key: change.key}
		} else {
			operation.Put = model.PutOptions{Key: change.key, Value: change.value, LeaseID: change.lease}
		}
		operations = append(operations, operation)
	}
	return model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: operations}}
}

// Which keys hang on which leases.
type attachments struct {
	of   map[string]int64
	keys map[int64]map[string]bool
}

// revokedBy is the lease whose keys, all of them and nothing else, the changes delete; else 0.
func (a *attachments) revokedBy(changes []change) int64 {
	lease := a.of[changes[0].key]
	for _, change := range changes {
		if !change.isDelete || a.of[change.key] != lease {
			return 0
		}
	}
	if len(changes) != len(a.keys[lease]) {
		return 0
	}
	return lease
}

func (a *attachments) follow(changes []change) {
	for _, change := range changes {
		delete(a.keys[a.of[change.key]], change.key)
		delete(a.of, change.key)
		if change.lease == 0 {
			continue
		}
		a.of[change.key] = change.lease
		if a.keys[change.lease] == nil {
			a.keys[change.lease] = map[string]bool{}
		}
		a.keys[change.lease][change.key] = true
	}
}
