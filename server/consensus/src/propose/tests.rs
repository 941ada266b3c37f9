//! What becomes of a batch whose leader is lost.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::types::LeaseId;

const PATIENCE: Duration = Duration::from_secs(5);

/// A way whose answers are laid down before; it remembers what was sent. What is sent after the
/// last answer is applied.
struct Laid {
    answers: Mutex<Vec<Result<(), ProposeRefused>>>,
    sent: Mutex<Vec<Batch>>,
    proposer: Proposer,
}

impl Laid {
    fn with(answers: &[Result<(), ProposeRefused>]) -> Arc<Laid> {
        let homes = Homes::new(1).0;
        let quota = Quota::new(None, false);
        let answers = answers.iter().rev().copied().collect();
        Arc::new(Laid {
            answers: Mutex::new(answers),
            sent: Mutex::default(),
            proposer: Proposer::new(MemberId(1), PATIENCE, quota, homes, Arc::default()),
        })
    }

    fn sent(&self) -> Vec<Vec<Op>> {
        let ops = |batch: &Batch| batch.decoded().expect("made here").1.clone();
        self.sent.lock().iter().map(ops).collect()
    }

    fn apply(&self, batch: &Batch) {
        let decoded = batch.decoded().expect("made here");
        let outcome = Outcome::new(crate::types::Revision(7), Ok(Applied::Done));
        let outcomes = vec![outcome; decoded.1.len()];
        self.proposer.outcomes(&decoded.0, &decoded.1, outcomes);
    }
}

impl Route for Arc<Laid> {
    async fn open(&self) {}

    async fn send(&self, batch: Batch) -> Result<(), ProposeRefused> {
        self.sent.lock().push(batch.clone());
        let answer = self.answers.lock().pop().unwrap_or(Ok(()));
        if answer.is_ok() {
            self.apply(&batch);
        }
        answer
    }

    fn term(&self) -> u64 {
        1
    }

    fn succeeded(&self, _: u64) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
}

async fn propose(laid: &Arc<Laid>, op: Op) -> Result<Outcome, ProposeError> {
    let running = laid.clone();
    let run = async move { running.proposer.run(&running).await };
    tokio::select! {
        never = run => match never {},
        outcome = laid.proposer.propose(op) => outcome,
    }
}

#[tokio::test]
async fn what_was_not_taken_goes_to_the_next_leader() {
    let laid = Laid::with(&[Err(ProposeRefused::NotLeader)]);
    let op = Op::LeaseRevoke(LeaseId(5));
    propose(&laid, op.clone()).await.unwrap();
    assert_eq!(laid.sent(), [vec![op.clone()], vec![op]]);
}

#[tokio::test]
async fn what_a_busy_leader_did_not_take_is_sent_again() {
    let laid = Laid::with(&[Err(ProposeRefused::Busy)]);
    let op = Op::LeaseRevoke(LeaseId(5));
    propose(&laid, op.clone()).await.unwrap();
    assert_eq!(laid.sent(), [vec![op.clone()], vec![op]]);
}

#[tokio::test]
async fn what_may_have_been_taken_is_never_sent_again() {
    let laid = Laid::with(&[Err(ProposeRefused::Unknown)]);
    let op = Op::LeaseRevoke(LeaseId(5));
    let outcome = propose(&laid, op.clone()).await;
    assert_eq!(outcome.err(), Some(ProposeError::LeaderLost));
    assert_eq!(laid.sent(), [vec![op]]);
    // Applied after all, as nobody can rule out: nobody waits for it.
    let late = laid.sent.lock()[0].clone();
    laid.apply(&late);
}

#[tokio::test]
async fn an_alarm_whose_batch_was_lost_is_raised_again_until_it_is_taken() {
    let laid = Laid::with(&[Err(ProposeRefused::Unknown)]);
    let running = laid.clone();
    let run = async move { running.proposer.run(&running).await };
    let raising = laid.proposer.clone();
    laid.proposer.raise_no_space();
    laid.proposer.raise_no_space();
    let taken = async {
        while laid.sent().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Nothing more is sent once it was taken.
        tokio::time::sleep(RAISE_PAUSE + Duration::from_millis(200)).await;
    };
    tokio::select! {
        never = run => match never {},
        never = raising.raise_decided() => match never {},
        () = taken => {}
    }
    let alarm = Op::Alarm(Alarm::Activate(MemberId(1), AlarmType::NoSpace));
    assert_eq!(laid.sent(), [vec![alarm.clone()], vec![alarm]]);
}

#[tokio::test]
async fn who_waited_too_long_is_told_why_as_of_when_it_began() {
    for (late, told) in [
        (Late::Unknown, ProposeError::Timeout),
        (Late::LeaderFailed, ProposeError::LeaderLost),
        (Late::ConnectionLost, ProposeError::ConnectionLost),
    ] {
        let laid = Laid::with(&[]);
        let sweeps = async {
            laid.proposer.sweep(|_| unreachable!("nobody is late yet"));
            let mut began = None;
            while began.is_none() {
                laid.proposer.sweep(|at| {
                    began = Some(at);
                    late
                });
                tokio::task::yield_now().await;
            }
            began.expect("it was asked")
        };
        let op = Op::LeaseRevoke(LeaseId(5));
        // Nobody sends batches: it waits in the queue.
        let (outcome, began) = tokio::join!(laid.proposer.propose(op), sweeps);
        assert_eq!(outcome.err(), Some(told));
        assert!(began.elapsed() >= PATIENCE, "its time was over");
        assert!(laid.sent().is_empty());
    }
}
