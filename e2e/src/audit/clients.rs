//! Clients that write, read and note down what they were told, until the server is killed.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use engram_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use engram_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse,
    RequestOp, TxnRequest, TxnResponse, request_op, response_op,
};
use tonic::{Code, Status};

use super::operation::{Operation, Outcome, Record, Seen, text};
use crate::client::{Client, revision_of};
use crate::random::Random;

/// Keys of each of the prefixes that all clients share.
const SHARED_KEYS: u64 = 24;
/// Operations of a client in one round: more than it gets done before the kill.
const OPERATIONS_MAX: u64 = 50_000;
/// The shortest time to live that etcd grants with its default election timeout. Seconds.
const SHORT_TTL: i64 = 2;
const LONG_TTL: i64 = 7_200;

/// What the clients of all rounds share.
#[derive(Debug, Default)]
pub struct Board {
    /// The highest revision that anybody has been told.
    pub floor: AtomicI64,
    /// Set before the server is killed: before that no call may fail.
    pub killed: AtomicBool,
    /// The last lease id in use.
    pub last_lease: AtomicI64,
    /// How many leases that expire may still be granted.
    pub short_leases: AtomicI64,
}

/// One client of one round.
pub struct Auditor<'a> {
    client: Client,
    board: &'a Board,
    random: Random,
    /// Makes keys and values of this client and round unique.
    label: String,
    count: u64,
    lease: Option<i64>,
    records: Vec<Record>,
}

impl<'a> Auditor<'a> {
    /// A client. `label` is unique among all clients and rounds.
    pub fn new(client: Client, board: &'a Board, random: Random, label: String) -> Self {
        Self {
            client,
            board,
            random,
            label,
            count: 0,
            lease: None,
            records: Vec::new(),
        }
    }

    /// Works until a call gets no answer because the server was killed. Returns the books.
    ///
    /// # Errors
    /// An answer that no correct server gives, or a failure before the kill.
    pub async fn work(mut self) -> Result<Vec<Record>, String> {
        while self.count < OPERATIONS_MAX && self.is_served().await? {
            self.count += 1;
        }
        Ok(self.records)
    }

    /// One step; `false` when there was no answer.
    async fn is_served(&mut self) -> Result<bool, String> {
        match self.random.below(100) {
            0..45 => {
                let key = self.shared_key();
                self.put(key, 0).await
            }
            45..65 => self.read_and_swap().await,
            65..75 => {
                let key = self.shared_key();
                self.perform(Operation::Delete { key }).await
            }
            75..85 => {
                let key = self.shared_key();
                self.perform(Operation::Get { key }).await
            }
            85..98 => self.use_lease().await,
            _ => self.leave_to_expire().await,
        }
    }

    fn shared_key(&mut self) -> String {
        let prefix = if self.random.percent(50) { "a" } else { "b" };
        format!("{prefix}/{:02}", self.random.below(SHARED_KEYS))
    }

    /// Mostly small, at times long enough to cover many sectors of the log.
    fn unique_value(&mut self) -> String {
        let length = match self.random.percent(3) {
            true => self.random.below(20_000),
            false => self.random.below(300),
        };
        let length = usize::try_from(length).expect("it is small");
        format!("{}.{} {}", self.label, self.count, "x".repeat(length))
    }

    async fn put(&mut self, key: String, lease: i64) -> Result<bool, String> {
        let value = self.unique_value();
        self.perform(Operation::Put { key, value, lease }).await
    }

    /// What every controller does: read, then write under the condition that nobody else has.
    async fn read_and_swap(&mut self) -> Result<bool, String> {
        let guard = format!("a/{:02}", self.random.below(SHARED_KEYS));
        let other = format!("b/{:02}", self.random.below(SHARED_KEYS));
        if !self.perform(Operation::Get { key: guard.clone() }).await? {
            return Ok(false);
        }
        let expected = match self.records.last().map(|record| &record.outcome) {
            Some(Outcome::Observed(_, Some((modified, _)))) => *modified,
            _ => 0,
        };
        let value = self.unique_value();
        self.perform(Operation::Swap {
            guard,
            expected,
            other,
            value,
        })
        .await
    }

    /// Grants a lease, or hangs a key on it, or ends it.
    async fn use_lease(&mut self) -> Result<bool, String> {
        match self.lease {
            None => {
                let lease = self.next_lease();
                self.lease = Some(lease);
                self.perform(Operation::Grant {
                    lease,
                    ttl: LONG_TTL,
                })
                .await
            }
            Some(lease) if self.random.percent(30) => {
                self.lease = None;
                self.perform(Operation::Revoke { lease }).await
            }
            Some(lease) => {
                let key = format!("lease/{}/{}", self.label, self.random.below(4));
                self.put(key, lease).await
            }
        }
    }

    async fn leave_to_expire(&mut self) -> Result<bool, String> {
        if self.board.short_leases.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Ok(true);
        }
        let lease = self.next_lease();
        if !self
            .perform(Operation::Grant {
                lease,
                ttl: SHORT_TTL,
            })
            .await?
        {
            return Ok(false);
        }
        self.put(format!("lease/{}/{lease}", self.label), lease)
            .await
    }

    fn next_lease(&self) -> i64 {
        self.board.last_lease.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sends one operation and notes it. `false` when there was no answer.
    async fn perform(&mut self, operation: Operation) -> Result<bool, String> {
        let floor = self.board.floor.load(Ordering::SeqCst);
        let sent = Instant::now();
        let outcome = match send(&mut self.client, &operation).await {
            Ok(Some(outcome)) => outcome,
            // The lease has expired meanwhile: nothing happened.
            Ok(None) => return Ok(true),
            Err(status) if self.may_be_unknown(&status) => Outcome::Unknown,
            Err(status) => return Err(format!("{operation:?} was answered by {status}")),
        };
        if let Outcome::Changed(revision) | Outcome::Observed(revision, _) = outcome {
            self.board.floor.fetch_max(revision, Ordering::SeqCst);
        }
        let answered = !matches!(outcome, Outcome::Unknown);
        self.records.push(Record {
            operation,
            floor,
            sent,
            outcome,
        });
        Ok(answered)
    }

    /// Only a killed server leaves a client without an answer, and then only with a transport's code.
    fn may_be_unknown(&self, status: &Status) -> bool {
        let transport = matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
        );
        transport && self.board.killed.load(Ordering::SeqCst)
    }
}

/// Sends one operation. `None` if a lease that expires by itself was gone already.
///
/// # Errors
/// The server's or the transport's.
pub async fn send(client: &mut Client, operation: &Operation) -> Result<Option<Outcome>, Status> {
    match operation {
        Operation::Put { key, value, lease } => put(client, key, value, *lease).await,
        Operation::Swap {
            guard,
            expected,
            other,
            value,
        } => {
            let request = swap_request(guard, *expected, other, value);
            let answer = client.kv.txn(request).await?.into_inner();
            Ok(Some(outcome_of_swap(&answer)))
        }
        Operation::Delete { key } => {
            let (revision, deleted) = client.delete(key.as_str()).await?;
            Ok(Some(match deleted {
                0 => Outcome::Observed(revision, None),
                _ => Outcome::Changed(revision),
            }))
        }
        Operation::Grant { lease, ttl } => {
            let request = LeaseGrantRequest {
                id: *lease,
                ttl: *ttl,
            };
            client.lease.lease_grant(request).await?;
            Ok(Some(Outcome::Done))
        }
        Operation::Revoke { lease } => {
            let request = LeaseRevokeRequest { id: *lease };
            client.lease.lease_revoke(request).await?;
            Ok(Some(Outcome::Done))
        }
        Operation::Get { key } => {
            let answer = client.get(key.as_str(), 0).await?;
            let revision = revision_of(answer.header.as_ref());
            Ok(Some(Outcome::Observed(revision, seen_in(&answer))))
        }
    }
}

async fn put(
    client: &mut Client,
    key: &str,
    value: &str,
    lease: i64,
) -> Result<Option<Outcome>, Status> {
    let answer = client.kv.put(put_request(key, value, lease)).await;
    match answer {
        Err(status) if lease != 0 && status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
        Ok(answer) => {
            let revision = revision_of(answer.into_inner().header.as_ref());
            Ok(Some(Outcome::Changed(revision)))
        }
    }
}

fn put_request(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        lease,
        ..PutRequest::default()
    }
}

fn swap_request(guard: &str, expected: i64, other: &str, value: &str) -> TxnRequest {
    let guard_key = guard.as_bytes().to_vec();
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: guard_key.clone().into(),
        target_union: Some(TargetUnion::ModRevision(expected)),
        ..Compare::default()
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let put = |key| operation(request_op::Request::RequestPut(put_request(key, value, 0)));
    let read = RangeRequest {
        key: guard_key.into(),
        ..RangeRequest::default()
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![put(guard), put(other)],
        failure: vec![operation(request_op::Request::RequestRange(read))],
    }
}

fn outcome_of_swap(answer: &TxnResponse) -> Outcome {
    let revision = revision_of(answer.header.as_ref());
    if answer.succeeded {
        return Outcome::Changed(revision);
    }
    let first = answer
        .responses
        .first()
        .and_then(|answer| answer.response.as_ref());
    match first {
        Some(response_op::Response::ResponseRange(range)) => {
            Outcome::Observed(revision, seen_in(range))
        }
        other => panic!("a read in a transaction was answered by {other:?}"),
    }
}

fn seen_in(answer: &RangeResponse) -> Seen {
    let kv = answer.kvs.first()?;
    Some((kv.mod_revision, text(&kv.value)))
}
