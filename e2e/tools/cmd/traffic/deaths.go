package main

import (
	"math"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// Who deleted what. A put says by its value whose it is; a delete and a revocation do not, and one without
// an answer that may have happened at any time makes the search for a linearization long. Most are
// settled by what was seen: this is what etcd's suite does with puts (validate/patch_history.go).
type deaths struct {
	// The revisions of which a client was told that its own request deleted something.
	deleted map[int64]bool
	// The lease of which one was told that it was revoked, by the revision it was told.
	revoked map[int64]int64
	// Who asked for the end of what and was told nothing, and the revisions that nobody was told of.
	keys   map[string]*death
	leases map[int64]*death
}

// The end of a key or a lease, or several of them.
type death struct {
	// Requests without an answer.
	open int
	// When it came to be without a client that was told.
	revisions []int64
	// Something else may have done it.
	isDoubtful bool
}

func readDeaths(reports []report.ClientReport) *deaths {
	d := &deaths{map[int64]bool{}, map[int64]int64{}, map[string]*death{}, map[int64]*death{}}
	for _, client := range reports {
		for _, operation := range client.KeyValue {
			d.note(operation.Input.(model.EtcdRequest), operation.Output.(model.MaybeEtcdResponse))
		}
	}
	return d
}

func (d *deaths) note(request model.EtcdRequest, response model.MaybeEtcdResponse) {
	key, isDelete := deleteOnly(request)
	switch {
	case request.Type == model.LeaseRevoke && response.Error == "":
		d.revoked[response.Revision] = request.LeaseRevoke.LeaseID
	case request.Type == model.LeaseRevoke:
		of(d.leases, request.LeaseRevoke.LeaseID).open++
	case isDelete && response.Error != "":
		of(d.keys, key).open++
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
	if d.deleted[revision] || len(changes) == 1 && of(d.keys, changes[0].key).open > 0 {
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
	if lease != 0 && of(d.leases, lease).open > 0 {
		key.isDoubtful, of(d.leases, lease).isDoubtful = true, true
	}
}

func (d *death) happened(revision int64) { d.revisions = append(d.revisions, revision) }

// settle returns the operations with what is known of deletes and revocations without an answer: those
// that did not happen are left out, and of one that did its revision is told.
func (d *deaths) settle(operations []porcupine.Operation) []porcupine.Operation {
	settled := make([]porcupine.Operation, 0, len(operations))
	for _, operation := range operations {
		end := d.openEnd(operation)
		switch {
		case end == nil || end.isDoubtful || len(end.revisions) > 1 || len(end.revisions) == 1 && end.open > 1:
			settled = append(settled, operation)
		case len(end.revisions) == 1:
			operation.Output = model.MaybeEtcdResponse{Persisted: true, PersistedRevision: end.revisions[0]}
			// Whenever that was.
			operation.Return = math.MaxInt64
			settled = append(settled, operation)
		}
	}
	return settled
}

// openEnd is what a request without an answer wanted to end; nil for all others.
func (d *deaths) openEnd(operation porcupine.Operation) *death {
	request := operation.Input.(model.EtcdRequest)
	if operation.Output.(model.MaybeEtcdResponse).Error == "" {
		return nil
	}
	if request.Type == model.LeaseRevoke {
		return d.leases[request.LeaseRevoke.LeaseID]
	}
	if key, is := deleteOnly(request); is {
		return d.keys[key]
	}
	return nil
}
