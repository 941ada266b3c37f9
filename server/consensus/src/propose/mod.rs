//! Proposals: requests that change the store wait here, become one Raft entry together, and are
//! answered when it is applied.
//!
//! Nothing waits on a timer to form a batch: while one batch is on its way to the log's disk, the
//! next one gathers; when it is applied, whatever has gathered goes. One entry, one fdatasync,
//! however many requests.
//!
//! Must never: retry a proposal that may have been taken (its outcome is unknown; the one exception
//! is the NOSPACE alarm, which is the same raised twice), or answer before the entry is applied.
//!
//! A caller waits a bounded time: the Raft thread sweeps through those who wait ([`SWEEP_EVERY`]).
//! A timer for every one of them would cost each more than its place in the batch does.
//!
//! Bounds: requests and bytes waiting ([`WAITING_MAX`], [`WAITING_BYTES_MAX`]) and the time that they would wait
//! ([`admission`]); beyond them a request is refused. And requests and bytes of a batch ([`BATCH_MAX`],
//! [`BATCH_BYTES_MAX`]).

mod admission;
mod cost;
mod quota;
#[cfg(test)]
mod tests;
mod waits;

pub use quota::Quota;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::codec::entry::BatchHeader;
use crate::home::Homes;
use crate::mutants::is_planted;
use crate::raft::{Batch, Later, ProposeRefused};
use crate::threads::Pulse;
use crate::types::MemberId;
use crate::types::request::{Alarm, AlarmType, Op};
use crate::types::result::{Applied, Outcome};
use admission::{Admission, Backlog, Class, Moment, Turn};
use waits::{Waiter, Waits};

/// The most requests waiting for a batch. etcd refuses at 5,000 entries of backlog.
const WAITING_MAX: usize = 20_000;
/// The most bytes waiting for a batch.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// How often callers are swept through: how late a timeout may be.
pub const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// The most requests of a batch.
const BATCH_MAX: usize = 4096;
/// The most bytes of a batch (one request may be larger alone).
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How long to rest after a member that was taken for the leader said that it is not.
const REROUTE_PAUSE: Duration = Duration::from_millis(10);

/// How long to rest after the leader said that its log's disk does not keep up.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// How long the next leader is waited for after one was lost with a batch.
const LOSS_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long to rest after an alarm could not be raised.
const RAISE_PAUSE: Duration = Duration::from_secs(1);

/// Why a proposal has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too much is waiting.
    #[error("too many requests")]
    TooManyRequests,
    /// The quota is reached; the alarm is being raised.
    #[error("database space exceeded")]
    NoSpace,
    /// The member is stopping.
    #[error("server stopped")]
    Stopped,
    /// The request timeout passed. The outcome is unknown.
    #[error("request timed out")]
    Timeout,
    /// The leader was lost on the way, and another leads. The outcome is unknown.
    #[error("request timed out, possibly due to previous leader failure")]
    LeaderLost,
    /// The request timeout passed, and the connection to the leader, or the leader's to a quorum,
    /// broke meanwhile. The outcome is unknown.
    #[error("request timed out, possibly due to connection lost")]
    ConnectionLost,
    /// This member does not lead (any more) the term in which it was decided. It has not happened.
    #[error("not the leader")]
    NotLeader,
}

/// Why the request timeout passed, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It took too long.
    Unknown,
    /// The leader that it was asked of was lost.
    LeaderFailed,
    /// The connection to the leader, or the leader's to a quorum, broke.
    ConnectionLost,
}

impl From<Late> for ProposeError {
    fn from(late: Late) -> ProposeError {
        match late {
            Late::Unknown => ProposeError::Timeout,
            Late::LeaderFailed => ProposeError::LeaderLost,
            Late::ConnectionLost => ProposeError::ConnectionLost,
        }
    }
}

/// Where batches go: to the leader, whoever that is.
pub trait Route {
    /// Returns once there is a way. Nothing is taken out of the queue before: what waits there can
    /// still be refused with certainty.
    fn open(&self) -> impl Future<Output = ()>;

    /// Sends a batch; returns once it is applied where it was sent.
    fn send(&self, batch: Batch) -> impl Future<Output = Result<(), ProposeRefused>>;

    /// The term in which batches are sent now.
    fn term(&self) -> u64;

    /// Resolves once an entry of a later term than `term` is applied here: what of that term came
    /// into the next leader's log has been applied before.
    fn succeeded(&self, term: u64) -> impl Future<Output = ()> + Send + 'static;
}

/// Takes proposals from any thread. Clones share the queue.
#[derive(Clone)]
pub struct Proposer {
    shared: Arc<Shared>,
}

struct Shared {
    member: MemberId,
    /// From when the admission's moments count.
    began: Instant,
    /// Sweeps a caller waits through before it gives up.
    patience: u64,
    sweeps: AtomicU64,
    /// The number of the last batch. Those of two runs of one member must not meet: an old batch
    /// could be applied late.
    sequence: AtomicU64,
    quota: Quota,
    queue: Mutex<Queue>,
    filled: Notify,
    waits: Waits,
    failed: AtomicU64,
    later: Arc<Later>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Op, usize, Waiter)>,
    bytes: usize,
    stopped: bool,
    admission: Admission,
}

impl Queue {
    fn backlog(&self) -> Backlog {
        Backlog {
            requests: self.waiting.len(),
            bytes: self.bytes,
        }
    }

    /// Whether there is room and time for one of so many bytes.
    fn admits(&mut self, op: &Op, bytes: usize) -> bool {
        let ahead = self.backlog();
        ahead.requests < WAITING_MAX
            && ahead.bytes + bytes <= WAITING_BYTES_MAX
            && self.admission.admits(Class::of(op), ahead)
    }
}

/// How a member does that is asked for more than it can do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Whether it refuses what would wait longer than it holds to under overload.
    pub is_overloaded: bool,
    /// Requests refused because they would have waited too long, since the start.
    pub refused: u64,
    /// How long one that comes now would wait; zero where none waits behind a batch.
    pub wait: Duration,
}

impl Proposer {
    /// A proposer for `member`, whose callers wait at most `timeout`, and what its log's writer keeps
    /// for the Raft thread.
    pub fn new(
        member: MemberId,
        timeout: Duration,
        quota: Quota,
        homes: Homes,
        later: Arc<Later>,
    ) -> Proposer {
        let shared = Shared {
            member,
            began: Instant::now(),
            patience: u64::try_from(timeout.as_millis() / SWEEP_EVERY.as_millis())
                .unwrap_or(u64::MAX),
            sweeps: AtomicU64::new(0),
            sequence: AtomicU64::new(unix_now().as_nanos() as u64),
            quota,
            queue: Mutex::default(),
            filled: Notify::new(),
            waits: Waits::new(homes),
            failed: AtomicU64::new(0),
            later,
        };
        Proposer {
            shared: Arc::new(shared),
        }
    }

    /// Has an operation decided and applied.
    ///
    /// # Errors
    /// See [`ProposeError`]; only after `Timeout`, `LeaderLost`, `ConnectionLost` and `Stopped` is the
    /// outcome unknown.
    pub async fn propose(&self, op: Op) -> Result<Outcome, ProposeError> {
        let receiver = self.enqueue(op)?;
        let outcome = receiver.await.unwrap_or(Err(ProposeError::Stopped));
        if outcome.is_err() {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// The quota, for whoever measures the store.
    pub fn quota(&self) -> &Quota {
        &self.shared.quota
    }

    /// Requests that wait for a batch or for its outcome.
    pub fn pending(&self) -> usize {
        self.shared.queue.lock().waiting.len() + self.shared.waits.len()
    }

    /// Proposals that had no outcome: refused by Raft, or timed out.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// How the member does that is asked for more than it can do.
    pub fn load(&self) -> Load {
        let queue = self.shared.queue.lock();
        let admission = &queue.admission;
        Load {
            is_overloaded: admission.is_overloaded(),
            refused: admission.refused(),
            wait: admission.wait(queue.backlog()).unwrap_or_default(),
        }
    }

    fn enqueue(&self, op: Op) -> Result<oneshot::Receiver<waits::Reply>, ProposeError> {
        let bytes = cost::bytes(&op);
        let now = self.shared.sweeps.load(Ordering::Relaxed);
        let (waiter, receiver) = Waiter::new(now.saturating_add(self.shared.patience));
        let mut queue = self.shared.queue.lock();
        if queue.stopped {
            return Err(ProposeError::Stopped);
        }
        if !queue.admits(&op, bytes) {
            return Err(ProposeError::TooManyRequests);
        }
        // After that: what is refused takes none of the quota.
        if !self.shared.quota.admits(cost::cost(&op)) {
            drop(queue);
            self.raise_no_space();
            return Err(ProposeError::NoSpace);
        }
        // Who came last on this thread has it told at its turn's end.
        let is_first = queue
            .waiting
            .last()
            .is_none_or(|(.., last)| !last.is_here());
        queue.bytes += bytes;
        queue.waiting.push((op, bytes, waiter));
        drop(queue);
        if is_first {
            let shared = self.shared.clone();
            let homes = self.shared.waits.homes();
            homes.at_turns_end(move || {
                shared.filled.notify_one();
                shared.later.somebody_waits();
            });
        }
        Ok(receiver)
    }

    /// Decides on the NOSPACE alarm for this member, whose quota is reached: [`Proposer::raise_decided`]
    /// raises it.
    fn raise_no_space(&self) {
        if self.shared.quota.decide_alarm() {
            crate::log!(warn, "message exceeded backend quota; raising alarm",
                "quota-size-bytes" = self.shared.quota.limit_bytes(),
                member = %self.shared.member);
        }
    }

    /// Raises the alarm whenever it was decided on, and again where its batch was lost: raising it
    /// twice is raising it once. For as long as it is not dropped; one task a member.
    pub async fn raise_decided(&self) -> Infallible {
        let quota = &self.shared.quota;
        loop {
            quota.decided().await;
            while quota.is_alarm_decided() {
                let alarm = Alarm::Activate(self.shared.member, AlarmType::NoSpace);
                match self.propose(Op::Alarm(alarm)).await {
                    Ok(_) | Err(ProposeError::Stopped) => break,
                    Err(_) => tokio::time::sleep(RAISE_PAUSE).await,
                }
            }
        }
    }

    /// Refuses the callers that have waited their time, as `why` says of what began at a moment. For
    /// the Raft thread, every [`SWEEP_EVERY`].
    pub fn sweep(&self, why: impl FnOnce(Instant) -> Late) {
        self.shared.later.tell();
        let sweep = self.shared.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        let calm = self.shared.queue.lock().admission.look_for_calm(self.now());
        if let Some(turn) = calm {
            tell(turn);
        }
        let mut late = self.shared.waits.take_late(sweep);
        late.extend(self.take_late(sweep));
        if late.is_empty() {
            return;
        }
        let patience = u32::try_from(self.shared.patience).unwrap_or(u32::MAX);
        let waited = SWEEP_EVERY.saturating_mul(patience);
        let now = Instant::now();
        let why = why(now.checked_sub(waited).unwrap_or(now));
        self.shared.waits.refuse(late, why.into());
    }

    /// Takes those who have waited their time for a batch.
    fn take_late(&self, sweep: u64) -> Vec<Waiter> {
        {
            let mut queue = self.shared.queue.lock();
            // In the order they came: the first that may wait on ends it.
            let mut count = 0;
            let mut bytes = 0;
            for (_, op_bytes, waiter) in &queue.waiting {
                if !waiter.gives_up(sweep) {
                    break;
                }
                count += 1;
                bytes += op_bytes;
            }
            queue.bytes -= bytes;
            let late = queue.waiting.drain(..count);
            late.map(|(_, _, waiter)| waiter).collect()
        }
    }

    /// Tells the callers of a batch what came of it. For the apply thread.
    pub fn outcomes(&self, header: &BatchHeader, ops: &[Op], outcomes: Vec<Outcome>) {
        for (op, outcome) in ops.iter().zip(&outcomes) {
            if let (Op::Alarm(alarm), Ok(Applied::Alarm(_))) = (op.bare(), &outcome.result) {
                self.shared.quota.alarm_changed(alarm);
            }
        }
        if header.proposer == self.shared.member {
            self.shared.waits.complete(header.sequence, outcomes);
        }
    }

    /// Refuses what waits and what comes. The member is stopping.
    pub fn stop(&self) {
        let waiting = {
            let mut queue = self.shared.queue.lock();
            queue.stopped = true;
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        self.shared.waits.refuse_all(ProposeError::Stopped);
        let waiters = waiting.into_iter().map(|(_, _, waiter)| waiter);
        self.shared.waits.refuse(waiters, ProposeError::Stopped);
        self.shared.filled.notify_one();
        // What it closes waits for what is still to be told.
        self.shared.later.somebody_waits();
    }

    /// Has the Raft thread told what is kept for it whenever a request waits. One task a member, on
    /// that thread.
    pub async fn tell_when_awaited(&self) -> Infallible {
        self.shared.later.tell_when_awaited().await
    }

    /// Sends batches on their way, one at a time. After [`Proposer::stop`] none come. Runs on the Raft
    /// thread.
    pub async fn run(&self, route: &impl Route) -> Infallible {
        let pulse = Pulse::new("the proposer");
        loop {
            pulse.rest(self.shared.filled.notified()).await;
            loop {
                // Neither somebody who leads nor a quorum that takes the batch is this member's
                // matter: both may be long in coming.
                pulse.rest(route.open()).await;
                let Some((ops, waiters)) = self.take_batch() else {
                    break;
                };
                pulse.rest(self.send(route, ops, waiters)).await;
            }
        }
    }

    /// Has operations decided that only the leader of a term may decide. `lead` hands them to this
    /// member's own consensus, in that term or not at all: they do not wait in the queue, and are
    /// neither forwarded nor sent again. One outcome an operation.
    ///
    /// # Errors
    /// See [`ProposeError`]; after `NotLeader` nothing has happened.
    pub async fn decide<Sent>(
        &self,
        ops: Vec<Op>,
        lead: impl FnOnce(Batch) -> Sent,
    ) -> Result<Vec<Outcome>, ProposeError>
    where
        Sent: Future<Output = Result<(), ProposeRefused>>,
    {
        let now = self.shared.sweeps.load(Ordering::Relaxed);
        let until = now.saturating_add(self.shared.patience);
        let (waiters, receivers): (Vec<_>, Vec<_>) = ops.iter().map(|_| Waiter::new(until)).unzip();
        let (sequence, batch) = self.batch(ops, waiters);
        let refused = match lead(batch).await {
            Ok(()) => None,
            Err(ProposeRefused::NotLeader) => Some(ProposeError::NotLeader),
            Err(ProposeRefused::Busy) => Some(ProposeError::TooManyRequests),
            Err(ProposeRefused::Unknown) => Some(ProposeError::LeaderLost),
            Err(ProposeRefused::Stopped) => Some(ProposeError::Stopped),
        };
        if let Some(error) = refused {
            self.shared.waits.refuse_batch(sequence, error);
        }
        let mut outcomes = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            outcomes.push(receiver.await.unwrap_or(Err(ProposeError::Stopped))?);
        }
        Ok(outcomes)
    }

    /// A batch of this member's, and its number. Its callers are registered before it is sent:
    /// applying may come first.
    fn batch(&self, ops: Vec<Op>, waiters: Vec<Waiter>) -> (u64, Batch) {
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let wall_ms = u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX);
        let header = BatchHeader {
            proposer: self.shared.member,
            sequence,
            wall_ms,
        };
        self.shared.waits.register(sequence, waiters);
        (sequence, Batch::new(header, ops))
    }

    async fn send(&self, route: &impl Route, ops: Vec<Op>, waiters: Vec<Waiter>) {
        let (sequence, batch) = self.batch(ops, waiters);
        let batch = batch.answered_when_applied();
        let term = route.term();
        match route.send(batch.clone()).await {
            Ok(()) => self.shared.queue.lock().admission.done(self.now()),
            Err(ProposeRefused::Unknown) if is_planted("propose-twice") => {
                self.put_back(sequence, &batch);
            }
            Err(ProposeRefused::Unknown) => self.expect_loss(sequence, route.succeeded(term)),
            Err(ProposeRefused::NotLeader) => {
                self.put_back(sequence, &batch);
                tokio::time::sleep(REROUTE_PAUSE).await;
            }
            Err(ProposeRefused::Busy) => {
                self.put_back(sequence, &batch);
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(ProposeRefused::Stopped) => {
                let stopped = ProposeError::Stopped;
                self.shared.waits.refuse_batch(sequence, stopped);
            }
        }
    }

    /// The leader was lost with a batch: those who wait hear of it if it is applied yet, else as
    /// soon as the next leader's log is known not to hold it, which is long before they would give
    /// up.
    fn expect_loss(&self, sequence: u64, succeeded: impl Future<Output = ()> + Send + 'static) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            // Callers give up by themselves: past that nobody is left to be told.
            if tokio::time::timeout(LOSS_WAIT_MAX, succeeded).await.is_ok() {
                shared
                    .waits
                    .refuse_batch(sequence, ProposeError::LeaderLost);
            }
        });
    }

    fn now(&self) -> Moment {
        self.shared.began.elapsed()
    }

    /// Puts a batch that is known not to have been taken before what waits, for another leader.
    fn put_back(&self, sequence: u64, batch: &Batch) {
        let waiters = self.shared.waits.take(sequence);
        let decoded = batch.decoded().expect("a batch made here can be decoded");
        let mut queue = self.shared.queue.lock();
        if queue.stopped {
            drop(queue);
            let waiters = waiters.into_iter().flatten();
            return self.shared.waits.refuse(waiters, ProposeError::Stopped);
        }
        let mut waiting = Vec::with_capacity(waiters.len() + queue.waiting.len());
        for (op, waiter) in decoded.1.iter().zip(waiters) {
            // Nobody waits for the others any more, and nothing of them has happened.
            let Some(waiter) = waiter else { continue };
            let bytes = cost::bytes(op);
            queue.bytes += bytes;
            waiting.push((op.clone(), bytes, waiter));
        }
        waiting.append(&mut queue.waiting);
        queue.waiting = waiting;
    }

    fn take_batch(&self) -> Option<(Vec<Op>, Vec<Waiter>)> {
        let mut queue = self.shared.queue.lock();
        let mut bytes = 0;
        let mut count = 0;
        for (_, op_bytes, _) in queue.waiting.iter().take(BATCH_MAX) {
            if count > 0 && bytes + op_bytes > BATCH_BYTES_MAX {
                break;
            }
            bytes += op_bytes;
            count += 1;
        }
        if count == 0 {
            if !queue.stopped {
                self.shared.later.nobody_waits();
            }
            return None;
        }
        queue.bytes -= bytes;
        let rest = queue.waiting.split_off(count);
        let taken = std::mem::replace(&mut queue.waiting, rest);
        let left = queue.backlog();
        if left.requests == 0 {
            self.shared.later.nobody_waits();
        }
        let batch = Backlog {
            requests: count,
            bytes,
        };
        let turn = queue.admission.taken(self.now(), batch, left);
        drop(queue);
        if let Some(turn) = turn {
            tell(turn);
        }
        Some(
            taken
                .into_iter()
                .map(|(op, _, waiter)| (op, waiter))
                .unzip(),
        )
    }
}

/// Says in the log that overload begins or is over.
fn tell(turn: Turn) {
    match turn {
        Turn::Begins(wait) => crate::log!(
            warn,
            "more is asked for than can be done: refusing what would wait",
            "would-wait" = wait
        ),
        Turn::Over(refused) => crate::log!(
            info,
            "what is asked for can be done again",
            "refused-requests" = refused
        ),
    }
}

fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
