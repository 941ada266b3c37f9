package main

import (
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// Who deleted what, and what became of requests without an answer. One that may have happened at any time
// makes the search for a linearization long, so they are settled by what was seen. etcd's suite does it
// with puts, whose values say whose they are (validate/patch_history.go); but it takes a transaction for
// one that happened where another one deleted a key that it deletes too. A delete and a revocation do not
// say whose they are.
type deaths struct {
	// The revisions of which a client was told that its own request deleted something.
	deleted map[int64]bool
	// The lease of which one was told that it was revoked, by the revision it was told.
	revoked map[int64]int64
	// The revision of every put: its value is nobody else's.
	puts map[model.PutOptions]int64
	// Who asked for the end of what and was told nothing, and the revisions that nobody was told of.
	keys   map[string]*death
	leases map[int64]*death
}

// The end of a key or a lease, or several of them.
type death struct {
	// When requests without an answer were made, all of them alike, in any order.
	calls []int64
	// How many were made that hang on a condition.
	conditional int
	// When it came to be without a client that was told, in order.
	revisions []int64
	// Something else may have done it.
	isDoubtful bool
}

func readDeaths(reports []report.ClientReport) *deaths {
	d := &deaths{
		deleted: map[int64]bool{},
		revoked: map[int64]int64{},
		puts:    map[model.PutOptions]int64{},
		keys:    map[string]*death{},
		leases:  map[int64]*death{},
	}
	for _, client := range reports {
		for _, operation := range client.KeyValue {
			d.note(operation)
		}
	}
	for _, death := range d.keys {
		slices.Sort(death.calls)
	}
	for _, death := range d.leases {
		slices.Sort(death.calls)
	}
	return d
}

func (d *deaths) note(operation porcupine.Operation) {
	request, response := operation.Input.(model.EtcdRequest), operation.Output.(model.MaybeEtcdResponse)
	key, isDelete := deleteOnly(request)
	switch {
	case request.Type == model.LeaseRevoke && response.Error == "":
		d.revoked[response.Revision] = request.LeaseRevoke.LeaseID
	case request.Type == model.LeaseRevoke:
		lease := of(d.leases, request.LeaseRevoke.LeaseID)
		lease.calls = append(lease.calls, operation.Call)
	case isDelete && response.Error != "" && len(request.Txn.Conditions) > 0:
		of(d.keys, key).conditional++
	case isDelete && response.Error != "":
		of(d.keys, key).calls = append(of(d.keys, key).calls, operation.Call)
	case request.Type == model.Txn && response.Txn != nil:
		for _, result := range response.Txn.Results {
			if result.Deleted > 0 {
				d.deleted[response.Revision] = true
			}
		}
	}
}

// deleteOnly is the one key that a request deletes, if it writes nothing else.
func deleteOnly(request model.EtcdRequest) (key string, is bool) {
	if request.Type != model.Txn {
		return "", false
	}
	writes := 0
	for _, operation := range request.Txn.AllOperations() {
		if operation.Type != model.RangeOperation {
			writes++
		}
		if operation.Type == model.DeleteOperation {
			key, is = operation.Delete.Key, true
		}
	}
	return key, is && writes == 1
}

func of[K comparable](all map[K]*death, which K) *death {
	if all[which] == nil {
		all[which] = &death{}
	}
	return all[which]
}

// isRevocation tells whether deletes of all keys of a lease are its revocation. The traffic deletes one
// key at a time. Where one key may have gone either way it is a delete: the suite applies one that is
// named wherever it fits, also after a revocation, while it leaves out one that is not named.
func (d *deaths) isRevocation(revision, lease int64, changes []change) bool {
	if d.revoked[revision] == lease {
		return true
	}
	if d.deleted[revision] || len(changes) == 1 && of(d.keys, changes[0].key).isOpen() {
		return false
	}
	of(d.leases, lease).happened(revision)
	return true
}

// isDelete notes a change that is no revocation of lease, which has no other keys; or of none, if 0.
func (d *deaths) isDelete(revision, lease int64, changes []change) {
	if len(changes) != 1 || !changes[0].isDelete || d.deleted[revision] {
		return
	}
	key := of(d.keys, changes[0].key)
	key.happened(revision)
	if lease != 0 && of(d.leases, lease).isOpen() {
		key.isDoubtful, of(d.leases, lease).isDoubtful = true, true
	}
}

func (d *deaths) notePuts(revision int64, changes []change) {
	for _, change := range changes {
		if !change.isDelete {
			d.puts[model.PutOptions{Key: change.key, Value: change.value}] = revision
		}
	}
}

func (d *death) happened(revision int64) { d.revisions = append(d.revisions, revision) }

func (d *death) isOpen() bool { return len(d.calls)+d.conditional > 0 }

// settle returns the operations with what is known of those without an answer: deletes and revocations
// that did not happen are left out, and of one that did its revision is told. A grant without an answer
// is left out: its lease is nobody's.
func (d *deaths) settle(operations []porcupine.Operation) []porcupine.Operation {
	settled := make([]porcupine.Operation, 0, len(operations))
	for _, operation := range operations {
		isOpen := operation.Output.(model.MaybeEtcdResponse).Error != ""
		if isOpen && operation.Input.(model.EtcdRequest).Type == model.LeaseGrant {
			continue
		}
		if !isOpen {
			settled = append(settled, operation)
			continue
		}
		switch revision, isKnown := d.revisionOf(operation); {
		case !isKnown:
			settled = append(settled, operation)
		case revision != 0:
			operation.Output = model.MaybeEtcdResponse{Persisted: true, PersistedRevision: revision}
			// Whenever that was.
			operation.Return = math.MaxInt64
			settled = append(settled, operation)
		}
	}
	return settled
}

// revisionOf is the revision at which a request without an answer took effect, 0 if it did not, as far as
// it is known.
func (d *deaths) revisionOf(operation porcupine.Operation) (revision int64, isKnown bool) {
	request := operation.Input.(model.EtcdRequest)
	if request.Type == model.Txn {
		for _, part := range request.Txn.AllOperations() {
			if part.Type == model.PutOperation {
				// All of its puts happened, or none.
				return d.puts[model.PutOptions{Key: part.Put.Key, Value: part.Put.Value}], true
			}
		}
	}
	if end := d.openEnd(request); end != nil {
		return end.revisionOf(operation)
	}
	return 0, false
}

// revisionOf is that of a request for this end.
//
// Requests that are alike may be exchanged: if some assignment of what happened to them is right, then so
// is the one in the order in which they were made.
func (d *death) revisionOf(operation porcupine.Operation) (revision int64, isKnown bool) {
	made := len(d.calls) + d.conditional
	switch {
	// More ends than requests are for the referee to judge.
	case d.isDoubtful || len(d.revisions) > made:
		return 0, false
	case len(d.revisions) == 0:
		return 0, true
	case d.conditional > 0 && made > 1:
		return 0, false
	case d.conditional > 0:
		return d.revisions[0], true
	}
	place := slices.Index(d.calls, operation.Call)
	if place >= len(d.revisions) {
		return 0, true
	}
	return d.revisions[place], true
}

// openEnd is what a request without an answer wanted to end; nil for all others.
func (d *deaths) openEnd(request model.EtcdRequest) *death {
	if request.Type == model.LeaseRevoke {
		return d.leases[request.LeaseRevoke.LeaseID]
	}
	if key, is := deleteOnly(request); is {
		return d.keys[key]
	}
	return nil
}
