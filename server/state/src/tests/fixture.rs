//! A state with the storage it needs, both in memory, and short ways to ask them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use crate::types::request::{self, Op, TxnOp};
use crate::types::result::{self, Applied, ApplyError, Outcome};
use crate::types::{KeyRange, KeyValue, LeaseId, Revision, RevisionPair};
use crate::{
    Change, Effects, Event, Limits, Loaded, MemberNode, Plan, RevisionRecord, State, Tables,
    Values, Walk,
};

/// What storage would hold.
#[derive(Debug, Default)]
pub struct Storage {
    pub records: BTreeMap<RevisionPair, RevisionRecord>,
    pub tables: Tables,
}

impl Values for Storage {
    fn get(&self, pair: RevisionPair) -> Option<RevisionRecord> {
        self.records.get(&pair).cloned()
    }

    fn scan(&self, from: RevisionPair, visit: &mut dyn FnMut(RevisionRecord) -> bool) {
        for record in self.records.range(from..).map(|(_, record)| record) {
            if !visit(record.clone()) {
                return;
            }
        }
    }
}

impl Storage {
    pub fn write(&mut self, change: Change) {
        let tables = &mut self.tables;
        match change {
            Change::PutRevision(record) => {
                let before = self.records.insert(record.pair, record);
                assert!(before.is_none(), "a revision is written once");
            }
            Change::DeleteRevision(pair) => {
                assert!(
                    self.records.remove(&pair).is_some(),
                    "a revision is dropped once"
                );
            }
            Change::SetRevision(revision) => tables.revision = Some(revision),
            Change::SetCompactScheduled(at) => tables.compact_scheduled = Some(at),
            Change::SetCompactFinished(at) => tables.compact_finished = Some(at),
            Change::SetAuth { enabled, revision } => {
                tables.auth.switch = Some((enabled, revision));
            }
            Change::PutUser(user) => {
                tables.auth.users.retain(|held| held.name != user.name);
                tables.auth.users.push(user);
            }
            Change::DeleteUser(name) => tables.auth.users.retain(|held| held.name != name),
            Change::PutRole(role) => {
                tables.auth.roles.retain(|held| held.name != role.name);
                tables.auth.roles.push(role);
            }
            Change::DeleteRole(name) => tables.auth.roles.retain(|held| held.name != name),
            Change::PutLease(id, ttl) => tables.leases.push((id, ttl)),
            Change::DeleteLease(id) => tables.leases.retain(|(lease, _)| *lease != id),
            Change::PutAlarm(member, alarm) => tables.alarms.push(result::Alarm { member, alarm }),
            Change::DeleteAlarm(member, alarm) => {
                tables
                    .alarms
                    .retain(|raised| *raised != result::Alarm { member, alarm });
            }
            Change::PutMember(record) => {
                tables.members.retain(|member| member.id != record.id);
                tables.members.push(record);
            }
            Change::RemoveMember(id) => {
                tables.members.retain(|member| member.id != id);
                tables.removed.push(id);
            }
            Change::SetClusterVersion(version) => tables.cluster_version = Some(version),
        }
    }
}

/// A state, its storage, and the batch under way.
pub struct Machine {
    pub state: State,
    pub storage: Storage,
    pub batch: Effects,
    pub cache_bytes: usize,
}

impl Machine {
    pub fn new(cache_bytes: usize) -> Machine {
        Machine {
            state: State::new(Limits {
                value_cache_bytes: cache_bytes,
            }),
            storage: Storage::default(),
            batch: Effects::default(),
            cache_bytes,
        }
    }

    /// Applies an operation within the batch under way.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        self.state.apply(op, &self.storage, &mut self.batch)
    }

    /// Ends the batch and returns its events.
    pub fn write(&mut self) -> Vec<Event> {
        let batch = std::mem::take(&mut self.batch);
        batch
            .changes
            .into_iter()
            .for_each(|change| self.storage.write(change));
        drop(self.state.take_unwritten());
        while self.state.shrink_cache() {}
        batch.events
    }

    /// Applies an operation as a batch of its own.
    pub fn run(&mut self, op: Op) -> Result<Applied, ApplyError> {
        let outcome = self.apply(&op);
        self.write();
        outcome.result
    }

    pub fn reconfigure(&mut self, nodes: &[MemberNode]) {
        self.state.reconfigure(nodes, &mut self.batch);
        self.write();
    }

    pub fn put(&mut self, key: &str, value: &str) -> Result<Applied, ApplyError> {
        self.run(Op::Put(put(key, value)))
    }

    pub fn put_leased(&mut self, key: &str, lease: i64) -> Result<Applied, ApplyError> {
        self.run(Op::Put(request::Put {
            lease: LeaseId(lease),
            ..put(key, "v")
        }))
    }

    pub fn grant(&mut self, id: i64) -> Result<Applied, ApplyError> {
        self.run(Op::LeaseGrant(request::LeaseGrant {
            id: LeaseId(id),
            ttl_seconds: 100,
        }))
    }

    pub fn delete(&mut self, key: &str, end: &str) -> Result<Applied, ApplyError> {
        self.run(Op::DeleteRange(delete(key, end)))
    }

    pub fn txn(&mut self, success: Vec<TxnOp>) -> Result<Applied, ApplyError> {
        self.run(Op::Txn(request::Txn {
            success,
            ..Default::default()
        }))
    }

    pub fn compact(&mut self, revision: i64) -> Result<Applied, ApplyError> {
        self.run(Op::Compact(request::Compact { revision }))
    }

    /// Reclaims until nothing more can go.
    pub fn reclaim(&mut self, step: usize) {
        while self.state.compact_pending() {
            self.state.compact_step(step, &mut self.batch);
            self.write();
        }
    }

    pub fn range(&self, query: &request::Range) -> Result<result::Range, ApplyError> {
        self.state.mvcc.range(query, &self.storage)
    }

    /// The keys and values of a range as text: `a=1 b=2`.
    pub fn list(&self, query: &request::Range) -> String {
        show_pairs(&self.range(query).expect("readable"))
    }

    pub fn revision(&self) -> i64 {
        self.state.mvcc.revision().0
    }

    pub fn hash(&self, revision: i64) -> Result<crate::KeyValueHash, ApplyError> {
        let mut plan = self.state.mvcc.hash_keep(Revision(revision))?;
        for record in self.storage.records.values() {
            if !plan.feed(record) {
                break;
            }
        }
        Ok(plan.finish())
    }

    /// The state that a restart would make of the storage.
    pub fn reloaded(&self) -> State {
        let limits = Limits {
            value_cache_bytes: self.cache_bytes,
        };
        State::load(limits, self.storage.tables.clone(), |feed| {
            self.storage
                .records
                .values()
                .try_for_each(|record| feed(Loaded::of(record)?))
        })
        .expect("storage holds what the state wrote")
    }
}

pub fn put(key: &str, value: &str) -> request::Put {
    request::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

pub fn delete(key: &str, end: &str) -> request::DeleteRange {
    request::DeleteRange {
        range: keys(key, end),
        prev_kv: false,
    }
}

pub fn keys(key: &str, end: &str) -> KeyRange {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    KeyRange::from_request(bytes(key), bytes(end))
}

pub fn all() -> request::Range {
    request::Range::all(keys("\0", "\0"))
}

pub fn at(revision: i64) -> request::Range {
    request::Range { revision, ..all() }
}

pub fn decode(item: &result::Item) -> KeyValue {
    KeyValue::decode(&Bytes::copy_from_slice(item.as_ref())).expect("an item is a key-value")
}

pub fn show_pairs(range: &result::Range) -> String {
    let pair = |item| {
        let kv = decode(item);
        format!("{}={}", kv.key.escape_ascii(), kv.value.escape_ascii())
    };
    range.items.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// An answer in full as text, to compare two of them.
pub fn show(answer: &Result<Applied, ApplyError>) -> String {
    let mut out = String::new();
    match answer {
        Err(error) => write!(out, "error: {error}"),
        Ok(Applied::Put(put)) => write!(out, "{put:?}"),
        Ok(Applied::DeleteRange(delete)) => write!(out, "{delete:?}"),
        Ok(Applied::Txn(txn)) => {
            show_txn(&mut out, txn);
            Ok(())
        }
        Ok(other) => write!(out, "{other:?}"),
    }
    .expect("writing to a string");
    out
}

pub fn show_range(range: &result::Range) -> String {
    let items: Vec<KeyValue> = range.items.iter().map(decode).collect();
    format!(
        "rev {} more {} count {} {items:?}",
        range.revision, range.more, range.count
    )
}

fn show_txn(out: &mut String, txn: &result::Txn) {
    write!(out, "txn {} [", txn.succeeded).expect("writing to a string");
    for response in &txn.responses {
        match response {
            result::TxnOp::Range(range) => out.push_str(&show_range(range)),
            result::TxnOp::Put(put) => out.push_str(&format!("{put:?}")),
            result::TxnOp::DeleteRange(delete) => out.push_str(&format!("{delete:?}")),
            result::TxnOp::Txn(inner) => show_txn(out, inner),
        }
        out.push_str("; ");
    }
    out.push(']');
}

/// Reads a plain range at the pinned revision that `query` names, a few keys a step.
pub fn walked(machine: &Machine, query: &request::Range) -> Plan {
    let walk = Walk {
        below: RevisionPair {
            main: Revision(query.revision).next(),
            sub: 0,
        },
        backwards: false,
        looked_max: 2,
    };
    let limit = usize::try_from(query.limit).unwrap_or(0);
    let (mut slots, mut count) = (Vec::new(), 0);
    let mut rest = Some(query.range.clone());
    while let Some(range) = rest {
        rest = machine.state.mvcc.walk(&walk, &range, &mut |seen| {
            count += 1;
            if limit == 0 || slots.len() < limit {
                slots.push(seen.slot(query.keys_only));
            }
            true
        });
    }
    Plan {
        revision: Revision(query.revision),
        head: machine.state.mvcc.revision(),
        more: limit > 0 && count > slots.len(),
        count: i64::try_from(count).expect("few keys"),
        slots,
    }
}
