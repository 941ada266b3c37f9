//! The naive model: every version ever written, and every answer computed from all of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::KeyValueHash;
use crate::types::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Op, Put, Range, SortOrder, SortTarget, Txn,
    TxnOp,
};
use crate::types::result::{self, Applied, ApplyError, Item};
use crate::types::{KeyRange, KeyValue, LeaseId, Revision, RevisionPair};

type Version = (RevisionPair, Option<KeyValue>);

#[derive(Clone, Debug)]
pub struct Model {
    pub history: BTreeMap<Bytes, Vec<Version>>,
    pub revision: i64,
    pub compacted: i64,
    pub leases: BTreeSet<LeaseId>,
    next_sub: u32,
}

impl Model {
    pub fn new() -> Model {
        Model {
            history: BTreeMap::new(),
            revision: 1,
            compacted: -1,
            leases: BTreeSet::new(),
            next_sub: 0,
        }
    }

    fn head(&self) -> i64 {
        if self.next_sub > 0 {
            self.revision + 1
        } else {
            self.revision
        }
    }

    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        let versions = self.history.get(key)?;
        versions
            .iter()
            .rev()
            .find(|(pair, _)| pair.main.0 <= at)?
            .1
            .as_ref()
    }

    pub fn keys_at(&self, range: &KeyRange, at: i64) -> Vec<KeyValue> {
        let inside = self.history.keys().filter(|key| range.contains(key));
        inside
            .filter_map(|key| self.get(key, at).cloned())
            .collect()
    }

    pub fn apply(&mut self, op: &Op) -> Result<Applied, ApplyError> {
        let answer = self.run(op);
        if self.next_sub > 0 {
            self.revision += 1;
            self.next_sub = 0;
        }
        answer
    }

    fn run(&mut self, op: &Op) -> Result<Applied, ApplyError> {
        match op {
            Op::Put(put) => {
                self.check_put(put)?;
                Ok(Applied::Put(self.put(put)))
            }
            Op::DeleteRange(delete) => Ok(Applied::DeleteRange(self.delete(delete))),
            Op::Txn(txn) => {
                let before = self.clone();
                before.check(txn)?;
                Ok(Applied::Txn(self.txn(&before, txn)))
            }
            Op::Compact(compact) => self.compact(compact.revision),
            Op::LeaseGrant(grant) => {
                if !self.leases.insert(grant.id) {
                    return Err(ApplyError::LeaseExists);
                }
                Ok(Applied::LeaseGrant {
                    id: grant.id,
                    ttl_seconds: grant.ttl_seconds,
                })
            }
            Op::LeaseRevoke(id) => self.revoke(*id),
            other => panic!("the model does not know {other:?}"),
        }
    }

    fn compact(&mut self, revision: i64) -> Result<Applied, ApplyError> {
        if revision <= self.compacted {
            return Err(ApplyError::Compacted);
        }
        if revision > self.revision {
            return Err(ApplyError::FutureRevision);
        }
        self.compacted = revision;
        Ok(Applied::Done)
    }

    fn revoke(&mut self, id: LeaseId) -> Result<Applied, ApplyError> {
        if !self.leases.remove(&id) {
            return Err(ApplyError::LeaseNotFound);
        }
        for key in self.keys_of(id) {
            self.write(key, None);
        }
        Ok(Applied::Done)
    }

    pub fn keys_of(&self, id: LeaseId) -> Vec<Bytes> {
        let leased = |kv: &KeyValue| kv.lease == id;
        let all = self.history.keys();
        all.filter(|key| self.get(key, i64::MAX).is_some_and(leased))
            .cloned()
            .collect()
    }

    fn check_put(&self, put: &Put) -> Result<(), ApplyError> {
        if put.lease != LeaseId::NONE && !self.leases.contains(&put.lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.get(&put.key, i64::MAX).is_none() {
            return Err(ApplyError::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, put: &Put) -> result::Put {
        let previous = self.get(&put.key, i64::MAX).cloned();
        let kept = previous.clone().unwrap_or_default();
        let main = Revision(self.revision + 1);
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: previous.as_ref().map_or(main, |kv| kv.create_revision),
            mod_revision: main,
            version: kept.version + 1,
            value: if put.ignore_value {
                kept.value
            } else {
                put.value.clone()
            },
            lease: if put.ignore_lease {
                kept.lease
            } else {
                put.lease
            },
        };
        self.write(put.key.clone(), Some(kv));
        let prev_kv = previous.filter(|_| put.prev_kv).map(|kv| kv.encode());
        result::Put {
            revision: Revision(self.head()),
            prev_kv,
        }
    }

    fn delete(&mut self, delete: &DeleteRange) -> result::DeleteRange {
        let gone = self.keys_at(&delete.range, i64::MAX);
        for kv in &gone {
            self.write(kv.key.clone(), None);
        }
        let deleted = gone.len() as i64;
        let prev_kvs = if delete.prev_kv {
            gone.iter().map(KeyValue::encode).collect()
        } else {
            vec![]
        };
        result::DeleteRange {
            revision: Revision(self.head()),
            deleted,
            prev_kvs,
            away: None,
        }
    }

    fn write(&mut self, key: Bytes, kv: Option<KeyValue>) {
        let pair = RevisionPair::new(self.revision + 1, self.next_sub);
        self.next_sub += 1;
        self.history.entry(key).or_default().push((pair, kv));
    }

    fn taken<'t>(&self, txn: &'t Txn) -> (bool, &'t [TxnOp]) {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        (holds, if holds { &txn.success } else { &txn.failure })
    }

    fn check(&self, txn: &Txn) -> Result<(), ApplyError> {
        for op in self.taken(txn).1 {
            match op {
                TxnOp::Range(range) if range.revision == 0 => {}
                TxnOp::Range(range) if range.revision > self.revision => {
                    return Err(ApplyError::FutureRevision);
                }
                TxnOp::Range(range) if range.revision < self.compacted => {
                    return Err(ApplyError::Compacted);
                }
                TxnOp::Range(_) | TxnOp::DeleteRange(_) => {}
                TxnOp::Put(put) => self.check_put(put)?,
                TxnOp::Txn(inner) => self.check(inner)?,
            }
        }
        Ok(())
    }

    fn txn(&mut self, before: &Model, txn: &Txn) -> result::Txn {
        let (succeeded, ops) = before.taken(txn);
        let run = |op: &TxnOp| match op {
            TxnOp::Range(range) => result::TxnOp::Range(self.range(range).expect("checked")),
            TxnOp::Put(put) => result::TxnOp::Put(self.put(put)),
            TxnOp::DeleteRange(delete) => result::TxnOp::DeleteRange(self.delete(delete)),
            TxnOp::Txn(inner) => result::TxnOp::Txn(self.txn(before, inner)),
        };
        result::Txn {
            succeeded,
            responses: ops.iter().map(run).collect(),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.keys_at(&compare.range, i64::MAX);
        if found.is_empty() {
            return !matches!(compare.target, CompareTarget::Value(_))
                && related(compare, &KeyValue::default());
        }
        found.iter().all(|kv| related(compare, kv))
    }

    pub fn range(&self, query: &Range) -> Result<result::Range, ApplyError> {
        let head = self.head();
        if query.revision > head {
            return Err(ApplyError::FutureRevision);
        }
        if query.revision > 0 && query.revision < self.compacted {
            return Err(ApplyError::Compacted);
        }
        Ok(self.range_at(
            query,
            if query.revision > 0 {
                query.revision
            } else {
                head
            },
        ))
    }

    /// The steps of etcd's range, one after the other.
    pub fn range_at(&self, query: &Range, at: i64) -> result::Range {
        let mut kvs = self.keys_at(&query.range, at);
        let count = kvs.len() as i64;
        let revision = Revision(self.head());
        if query.count_only {
            return result::Range {
                revision,
                items: vec![],
                more: false,
                count,
                away: None,
            };
        }
        if query.sort_order == SortOrder::None && !query.has_revision_filter() && query.limit > 0 {
            kvs.truncate(query.limit as usize + 1);
        }
        kvs.retain(|kv| {
            let (modified, created) = (kv.mod_revision.0, kv.create_revision.0);
            (query.min_mod_revision == 0 || modified >= query.min_mod_revision)
                && (query.max_mod_revision == 0 || modified <= query.max_mod_revision)
                && (query.min_create_revision == 0 || created >= query.min_create_revision)
                && (query.max_create_revision == 0 || created <= query.max_create_revision)
        });
        sort(&mut kvs, query);
        let more = query.limit > 0 && kvs.len() as i64 > query.limit;
        if query.limit > 0 {
            kvs.truncate(query.limit as usize);
        }
        for kv in kvs.iter_mut().filter(|_| query.keys_only) {
            kv.value = Bytes::new();
            if query.sort_target != SortTarget::Value {
                kv.lease = LeaseId::NONE;
            }
        }
        let items = kvs.iter().map(|kv| Item::Encoded(kv.encode())).collect();
        result::Range {
            revision,
            items,
            more,
            count,
            away: None,
        }
    }

    /// etcd's hash of a store whose compaction has finished, rule by rule over what it then holds.
    pub fn hash(&self, revision: i64) -> KeyValueHash {
        let revision = if revision == 0 {
            self.revision
        } else {
            revision
        };
        let mut held: BTreeMap<RevisionPair, (Bytes, Option<KeyValue>)> = BTreeMap::new();
        let mut keep: BTreeSet<RevisionPair> = BTreeSet::new();
        for (key, versions) in &self.history {
            let last = |at: i64| versions.iter().rev().find(|(pair, _)| pair.main.0 <= at);
            for (pair, kv) in versions {
                let kept = last(self.compacted).is_some_and(|last| {
                    last.0 == *pair && (kv.is_some() || pair.main.0 == self.compacted)
                });
                if pair.main.0 > self.compacted || kept {
                    held.insert(*pair, (key.clone(), kv.clone()));
                }
            }
            keep.extend(
                last(revision)
                    .filter(|(_, kv)| kv.is_some())
                    .map(|(pair, _)| *pair),
            );
        }
        let mut bytes = b"key".to_vec();
        for (pair, (key, kv)) in held {
            let main = pair.main.0;
            let outdated = main <= self.compacted && !keep.is_empty() && !keep.contains(&pair);
            let tombstone_there = main == self.compacted && kv.is_none();
            if main > revision || outdated || tombstone_there {
                continue;
            }
            bytes.extend(main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend(i64::from(pair.sub).to_be_bytes());
            bytes.extend(kv.is_none().then_some(b't'));
            bytes.extend(
                kv.unwrap_or(KeyValue {
                    key,
                    ..KeyValue::default()
                })
                .encode(),
            );
        }
        KeyValueHash {
            hash: crc32c::crc32c(&bytes),
            compact_revision: Revision(self.compacted),
            hash_revision: Revision(revision),
        }
    }
}

fn sort(kvs: &mut [KeyValue], query: &Range) {
    let by = |a: &KeyValue, b: &KeyValue| match query.sort_target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match query.sort_order {
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(by),
    }
}

fn related(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(wanted) => kv.version.cmp(wanted),
        CompareTarget::Create(wanted) => kv.create_revision.0.cmp(wanted),
        CompareTarget::Mod(wanted) => kv.mod_revision.0.cmp(wanted),
        CompareTarget::Value(wanted) => kv.value.cmp(wanted),
        CompareTarget::Lease(wanted) => kv.lease.0.cmp(wanted),
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}
