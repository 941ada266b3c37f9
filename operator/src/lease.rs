//! Which of the operator's replicas works: the one that holds a Lease, as client-go does it.
//!
//! Whoever loses the Lease ends at once: two that work at the same time would be worse than none
//! for a moment. Clocks of replicas need not agree: what counts is how long a record has not
//! changed as seen from here.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;

use crate::settings::Settings;

/// How long a holder that is not heard of keeps it (client-go's default).
const LEASE_TIME: Duration = Duration::from_secs(15);
/// How long a holder tries to renew it before it gives up (client-go's default).
const RENEW_LIMIT: Duration = Duration::from_secs(10);
/// Between two attempts (client-go's default).
const RETRY: Duration = Duration::from_secs(2);

/// How a Lease is kept.
struct Pace {
    /// Between two attempts.
    retry: Duration,
    /// How long after the last good attempt was begun it counts as lost.
    limit: Duration,
}

/// Attempts until the Lease is lost. What counts is when an attempt was begun: its record may have been
/// written at once and its answer come late, and others count from the record.
async fn hold(
    pace: &Pace,
    mut renewed: Instant,
    mut attempt: impl AsyncFnMut() -> Result<bool, kube::Error>,
) {
    while renewed.elapsed() < pace.limit {
        tokio::time::sleep(pace.retry).await;
        let left = pace.limit.saturating_sub(renewed.elapsed());
        let began = Instant::now();
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(true)) => renewed = began,
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be renewed"),
        }
    }
}

/// What is to be done about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// It is ours, or nobody's, or its holder was not heard of: write it.
    Write {
        /// Whether the holder changes.
        takes: bool,
    },
    /// It is somebody else's.
    Wait,
}

/// Decides about `spec`, which was last seen to change `quiet` ago.
fn decide(spec: Option<&LeaseSpec>, identity: &str, quiet: Duration) -> Move {
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    if holder == identity {
        return Move::Write { takes: false };
    }
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let lasts = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let lasts = lasts.map_or(LEASE_TIME, Duration::from_secs);
    if holder.is_empty() || quiet >= lasts {
        return Move::Write { takes: true };
    }
    Move::Wait
}

/// One replica's hand on the Lease.
pub struct Holder {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The record as last seen, and when it was first seen so.
    seen: Option<(LeaseSpec, Instant)>,
    /// When the attempt was begun that took it.
    taken: Instant,
}

impl Holder {
    /// A hand on the Lease of this namespace.
    #[must_use]
    pub fn new(client: kube::Client, settings: &Settings) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            name: settings.lease_name.clone(),
            identity: settings.identity.clone(),
            seen: None,
            taken: Instant::now(),
        }
    }

    /// Waits until this replica holds the Lease.
    pub async fn acquire(&mut self) {
        loop {
            let began = Instant::now();
            match self.attempt().await {
                Ok(true) if began.elapsed() < RENEW_LIMIT => {
                    self.taken = began;
                    return;
                }
                // An answer that came so late is of a Lease that is over, or nearly: once more.
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the Lease cannot be looked at"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Keeps the Lease; returns when it is lost.
    pub async fn keep(&mut self) {
        let pace = Pace {
            retry: RETRY,
            limit: RENEW_LIMIT,
        };
        let taken = self.taken;
        hold(&pace, taken, async || self.attempt().await).await;
    }

    /// Gives the Lease back, so that the next one need not wait.
    pub async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else {
            return;
        };
        let ours = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        if ours != Some(self.identity.as_str()) {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        // If this fails the next one waits for as long as the Lease lasts.
        drop(
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await,
        );
    }

    /// One look, and one write if there is cause. The resource version keeps two from both
    /// succeeding.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let spec = found.as_ref().and_then(|lease| lease.spec.clone());
        let quiet = self.quiet_for(spec.clone().unwrap_or_default());
        let Move::Write { takes } = decide(spec.as_ref(), &self.identity, quiet) else {
            return Ok(false);
        };
        let spec = self.record(spec.unwrap_or_default(), takes);
        let written = match found {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                };
                let lease = Lease {
                    metadata,
                    spec: Some(spec),
                };
                self.api.create(&PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody else was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn quiet_for(&mut self, spec: LeaseSpec) -> Duration {
        match &self.seen {
            Some((last, since)) if *last == spec => since.elapsed(),
            _ => {
                self.seen = Some((spec, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn record(&self, before: LeaseSpec, takes: bool) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let seconds = i32::try_from(LEASE_TIME.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: if takes {
                Some(now.clone())
            } else {
                before.acquire_time
            },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(takes)),
            ..before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: &str, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(by.into()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn only_a_quiet_lease_is_taken_from_somebody_else() {
        let seconds = Duration::from_secs;
        assert_eq!(decide(None, "a", seconds(0)), Move::Write { takes: true });
        assert_eq!(
            decide(Some(&held("a", 15)), "a", seconds(0)),
            Move::Write { takes: false }
        );
        assert_eq!(decide(Some(&held("b", 15)), "a", seconds(14)), Move::Wait);
        assert_eq!(
            decide(Some(&held("b", 15)), "a", seconds(15)),
            Move::Write { takes: true }
        );
        assert_eq!(
            decide(Some(&held("", 15)), "a", seconds(0)),
            Move::Write { takes: true }
        );
        assert_eq!(decide(Some(&held("b", -1)), "a", seconds(14)), Move::Wait);
    }

    /// An answer that comes late does not prolong the Lease: others count from the record, which may
    /// have been written when the attempt was begun.
    #[tokio::test]
    async fn a_late_answer_does_not_prolong_it() {
        let pace = Pace {
            retry: Duration::from_millis(10),
            limit: Duration::from_secs(2),
        };
        let began = Instant::now();
        let mut attempts = 0;
        let attempt = async || {
            attempts += 1;
            match attempts {
                1 => tokio::time::sleep(Duration::from_millis(1500)).await,
                _ => std::future::pending().await,
            }
            Ok(true)
        };
        hold(&pace, began, attempt).await;
        let held = began.elapsed();
        assert!(held < Duration::from_millis(2900), "{held:?}");
        assert_eq!(attempts, 2);
    }
}
