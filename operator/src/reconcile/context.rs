//! What every controller has at hand.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::api::EngramCluster;
use crate::build::Names;
use crate::settings::Settings;
use crate::telemetry::Metrics;

use super::FIELD_MANAGER;

/// The first wait after a failure; each further one is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What of an object ends its back-off by a change: its generation, and whether it is being deleted.
pub type Form = (Option<i64>, bool);

/// What is known of an object that fails.
struct Failures {
    /// How often in a row.
    count: u32,
    /// When it is tried again.
    until: Instant,
    /// What failed.
    form: Form,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every controller has at hand.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What the operator was told.
    pub settings: Settings,
    /// What it counts.
    pub metrics: Metrics,
    recorder: Recorder,
    /// Failures in a row, by kind, namespace and name; an entry goes with a success.
    failures: Mutex<HashMap<String, Failures>>,
    /// When room was last made in a cluster that lacks it, by its UID. An entry goes with the alarm.
    room_made: Mutex<HashMap<String, i64>>,
    /// Nodes that have no object any more, and since when. An entry goes when the node is back.
    gone_nodes: Mutex<HashMap<String, i64>>,
}

impl Context {
    /// With these.
    #[must_use]
    pub fn new(client: Client, settings: Settings, metrics: Metrics) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.into(),
            instance: Some(settings.identity.clone()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            settings,
            metrics,
            recorder,
            failures: Mutex::default(),
            room_made: Mutex::default(),
            gone_nodes: Mutex::default(),
        }
    }

    /// Tells of something at an object. An event that cannot be written is only logged.
    pub async fn event<K>(&self, object: &K, warning: bool, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            // Kubernetes takes 1024 characters.
            note: Some(note.chars().take(1000).collect()),
            action: reason.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, reason, "an event cannot be written");
        }
    }

    /// Counts what a member has given back, in bytes.
    pub fn reclaimed(&self, cluster: &EngramCluster, bytes: u64) {
        let names = Names::of(cluster);
        self.metrics
            .defrag_reclaimed
            .with_label_values(&[names.namespace, names.cluster])
            .inc_by(bytes);
    }

    /// One more failure of an object, in the form that it had: how long to wait.
    pub fn failed(&self, key: &str, form: Form) -> Duration {
        let mut all = held(&self.failures);
        let count = all.get(key).map_or(0, |failures| failures.count);
        let wait = BACKOFF_FIRST
            .saturating_mul(1 << count.min(10))
            .min(BACKOFF_MAX);
        let failures = Failures {
            count: count.saturating_add(1),
            until: Instant::now() + wait,
            form,
        };
        all.insert(key.to_owned(), failures);
        wait
    }

    /// How long an object still has to wait after its last failure; not at all in another form. What
    /// a pass that fails writes would have the next one begin at once.
    pub fn must_wait(&self, key: &str, form: Form) -> Option<Duration> {
        let all = held(&self.failures);
        let last = all.get(key).filter(|last| last.form == form)?;
        let left = last.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// A success of an object: its failures are forgotten.
    pub fn succeeded(&self, key: &str) {
        held(&self.failures).remove(key);
    }

    /// Whether room may be made in a cluster that lacks it: not within `pause` seconds of the last
    /// time.
    pub fn may_make_room(&self, uid: &str, now: i64, pause: i64) -> bool {
        let mut made = held(&self.room_made);
        let due = made.get(uid).is_none_or(|last| now - last >= pause);
        if due {
            made.insert(uid.to_owned(), now);
        }
        due
    }

    /// A cluster has room again.
    pub fn made_room(&self, uid: &str) {
        held(&self.room_made).remove(uid);
    }

    /// Since when a node has been seen to have no object.
    pub fn node_gone_since(&self, node: &str, now: i64) -> i64 {
        let mut gone = held(&self.gone_nodes);
        *gone.entry(node.to_owned()).or_insert(now)
    }

    /// A node has an object again.
    pub fn node_is_back(&self, node: &str) {
        held(&self.gone_nodes).remove(node);
    }
}
