//! After a start: clusters that were well are looked at one after the other, those that were not at once.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::reflector::Store;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{ConditionKind, EngramCluster, is_true};

/// The time of each cluster: a first look asks the API server some twenty times.
const EACH: Duration = Duration::from_millis(100);
/// All have been looked at by then, however many there are.
const LONGEST: Duration = Duration::from_secs(120);

/// Who has to wait after a start.
pub struct Start {
    began: Instant,
    /// Where controllers keep clusters, a scope each.
    stores: Mutex<Vec<Store<EngramCluster>>>,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            stores: Mutex::default(),
        }
    }
}

impl Start {
    /// Counts the clusters that are kept there.
    pub(super) fn counts(&self, store: Store<EngramCluster>) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.push(store);
    }

    fn clusters(&self) -> usize {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().map(Store::len).sum()
    }

    /// How long a cluster has to wait for its first look, if it has to.
    pub(super) fn wait(&self, cluster: &EngramCluster) -> Option<Duration> {
        let since = self.began.elapsed();
        if since >= LONGEST || !was_well(cluster) {
            return None;
        }
        let left = slot(cluster, self.clusters()).saturating_sub(since);
        (!left.is_zero()).then_some(left)
    }
}

/// Whether all was well when somebody looked last, and nothing was asked for since.
fn was_well(cluster: &EngramCluster) -> bool {
    let Some(status) = &cluster.status else {
        return false;
    };
    cluster.meta().deletion_timestamp.is_none()
        && status.observed_generation == cluster.metadata.generation
        && is_true(&status.conditions, ConditionKind::Ready)
}

/// When a cluster's turn is, among so many.
fn slot(cluster: &EngramCluster, count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let spread = EACH.saturating_mul(count).min(LONGEST);
    share(cluster).mul_f64(spread.as_secs_f64())
}

/// A share of a second that is a cluster's own, and always the same.
pub(super) fn share(cluster: &EngramCluster) -> Duration {
    let mut hasher = DefaultHasher::new();
    cluster.uid().hash(&mut hasher);
    Duration::from_millis(hasher.finish() % 1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(uid: usize, ready: &str, observed: i64) -> EngramCluster {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "uid": uid.to_string(), "generation": 2 },
            "spec": {},
            "status": { "observedGeneration": observed, "conditions": [{
                "type": "Ready", "status": ready, "reason": "AsExpected", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        }))
        .unwrap()
    }

    #[test]
    fn five_hundred_clusters_that_were_well_are_spread_and_few_are_not() {
        let slots = |count: usize| -> Vec<Duration> {
            let all = (0..count).map(|uid| slot(&cluster(uid, "True", 2), count));
            all.collect()
        };
        let many = slots(500);
        for begin in 0..10 {
            let within = |one: &&Duration| one.as_secs() / 5 == begin;
            let count = many.iter().filter(within).count();
            assert!((25..=75).contains(&count), "{count} in five seconds");
        }
        assert!(many.iter().all(|slot| *slot < Duration::from_secs(50)));
        assert!(
            slots(3)
                .iter()
                .all(|slot| *slot < Duration::from_millis(300))
        );
    }

    #[test]
    fn who_was_not_well_waits_for_nobody() {
        assert!(was_well(&cluster(1, "True", 2)));
        assert!(!was_well(&cluster(1, "False", 2)));
        assert!(!was_well(&cluster(1, "True", 1)), "it was changed since");
        let start = Start::default();
        assert_eq!(start.wait(&cluster(1, "False", 2)), None);
    }
}
