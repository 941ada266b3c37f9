//! What every controller has at hand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
    failures: Mutex<HashMap<String, u32>>,
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

    /// One more failure of an object: how long to wait.
    pub fn failed(&self, key: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_default();
        let wait = BACKOFF_FIRST
            .saturating_mul(1 << (*count).min(10))
            .min(BACKOFF_MAX);
        *count = count.saturating_add(1);
        wait
    }

    /// A success of an object: its failures are forgotten.
    pub fn succeeded(&self, key: &str) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    /// Since when a node has been seen to have no object.
    pub fn node_gone_since(&self, node: &str, now: i64) -> i64 {
        let mut gone = self
            .gone_nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *gone.entry(node.to_owned()).or_insert(now)
    }

    /// A node has an object again.
    pub fn node_is_back(&self, node: &str) {
        self.gone_nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
    }
}
