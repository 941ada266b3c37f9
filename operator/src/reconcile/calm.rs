//! What was seen of clusters, and whether anything was heard of them since: of one that is calm a pass has
//! nothing to read. Watches tell of news, and what was seen grows old all the same: a watch may be deaf.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use crate::api::EngramCluster;
use crate::observe::Objects;

/// What news are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Members, their pods and claims, a store that they use.
    Members,
    /// Services, budgets and policies.
    Children,
    /// Backups and schedules.
    Backups,
}

/// How much was heard of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard([u64; 3]);

impl Heard {
    /// Of these alone.
    pub(super) fn of(self, news: News) -> u64 {
        self.0[news as usize]
    }
}

/// What was seen of a cluster.
struct Seen {
    uid: Option<String>,
    /// The version of its object after that pass's last write.
    version: Option<String>,
    objects: Arc<Objects>,
    until: Instant,
}

#[derive(Default)]
struct Entry {
    heard: Heard,
    seen: Option<Seen>,
}

/// By namespace and name. An entry goes with its cluster.
#[derive(Default)]
pub struct Calm(Mutex<HashMap<String, Entry>>);

/// By which a cluster is known here.
#[must_use]
pub fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The same, of its object.
pub(super) fn key_of(cluster: &EngramCluster) -> String {
    key(
        &cluster.namespace().unwrap_or_default(),
        &cluster.name_any(),
    )
}

impl Calm {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was heard of a cluster; one that was never looked at is looked at anyhow.
    pub fn news(&self, key: &str, of: News) {
        if let Some(entry) = self.entries().get_mut(key) {
            entry.heard.0[of as usize] += 1;
            entry.seen = None;
        }
    }

    /// How much was heard of a cluster. Asked before it is read: what is heard while it is counts.
    pub(super) fn heard(&self, key: &str) -> Heard {
        let mut entries = self.entries();
        entries.entry(key.to_owned()).or_default().heard
    }

    /// Keeps what was seen of a cluster, unless more was heard than when that was begun.
    pub(super) fn keep(
        &self,
        key: &str,
        heard: Heard,
        cluster: &EngramCluster,
        version: Option<String>,
        (objects, lasts): (Arc<Objects>, Duration),
    ) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(key).filter(|entry| entry.heard == heard) else {
            return;
        };
        entry.seen = Some(Seen {
            uid: cluster.uid(),
            version,
            objects,
            until: Instant::now() + lasts,
        });
    }

    /// What was seen of a cluster that is calm, and as it was then.
    pub(super) fn seen(&self, key: &str, cluster: &EngramCluster) -> Option<Arc<Objects>> {
        let entries = self.entries();
        let seen = entries.get(key)?.seen.as_ref()?;
        let same = seen.uid == cluster.uid() && seen.version == cluster.resource_version();
        (same && Instant::now() < seen.until).then(|| seen.objects.clone())
    }

    /// A pass wrote figures into a calm cluster's status, and nothing else.
    pub(super) fn moved(&self, key: &str, version: Option<String>) {
        if let Some(seen) = self
            .entries()
            .get_mut(key)
            .and_then(|one| one.seen.as_mut())
        {
            seen.version = version;
        }
    }

    /// The cluster is read again by the next pass.
    pub(super) fn read_again(&self, key: &str) {
        if let Some(entry) = self.entries().get_mut(key) {
            entry.seen = None;
        }
    }

    /// The cluster is gone.
    pub(super) fn forget(&self, key: &str) {
        self.entries().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(version: &str) -> EngramCluster {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": {
                "name": "demo", "namespace": "data", "uid": "u", "resourceVersion": version,
            },
            "spec": {},
        }))
        .unwrap()
    }

    fn kept(calm: &Calm, heard: Heard, lasts: Duration) -> bool {
        let one = cluster("7");
        let seen = (Arc::default(), lasts);
        calm.keep("data/demo", heard, &one, Some("7".into()), seen);
        calm.seen("data/demo", &one).is_some()
    }

    #[test]
    fn what_was_seen_is_good_until_something_is_heard_or_it_is_old() {
        const LONG: Duration = Duration::from_secs(60);
        let calm = Calm::default();
        let heard = calm.heard("data/demo");
        assert!(kept(&calm, heard, LONG));
        assert!(calm.seen("data/demo", &cluster("8")).is_none(), "changed");
        assert!(calm.seen("data/other", &cluster("7")).is_none());
        calm.moved("data/demo", Some("8".into()));
        assert!(
            calm.seen("data/demo", &cluster("8")).is_some(),
            "its own write"
        );
        calm.news("data/demo", News::Children);
        assert!(calm.seen("data/demo", &cluster("8")).is_none());
        // Heard while it was read.
        assert!(!kept(&calm, heard, LONG));
        let now = calm.heard("data/demo");
        assert_eq!((now.of(News::Children), now.of(News::Members)), (1, 0));
        assert!(!kept(&calm, now, Duration::ZERO));
        assert!(kept(&calm, now, LONG));
        calm.read_again("data/demo");
        assert!(calm.seen("data/demo", &cluster("7")).is_none());
        calm.forget("data/demo");
        calm.news("data/demo", News::Members);
        assert!(!kept(&calm, now, LONG), "nobody is remembered who is gone");
    }
}
