//! What every controller has at hand.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::api::EngramCluster;
use crate::apiserver::Clients;
use crate::desired::Names;
use crate::etcd::{MemberClient, TlsClient};
use crate::pulse::Pulse;
use crate::settings::Settings;
use crate::telemetry::Metrics;

use super::FIELD_MANAGER;
use super::calm::{self, Calm};
use super::cluster::Asked;
use super::maintenance::RoomMade;
use super::start::Start;
use super::turns::Turns;

/// The first wait after a failure; each further one is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// How long what was found in order, and decides nothing, is not looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long a password that was right is not shown again: members work for that.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// The longest note of an event, in bytes: Kubernetes takes 1024.
const NOTE_MAX: usize = 1000;
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

/// The form in which something was found in order, or what was said of it, and when.
type InOrder = (String, Instant);

/// An attempt to make room.
#[derive(Clone)]
pub(super) struct Room {
    /// When it was begun, in seconds since 1970.
    pub begun: i64,
    /// How it ended; none while it runs.
    pub made: Option<RoomMade>,
}

/// As much of a text as so many bytes hold, in whole characters.
fn within(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every controller has at hand.
pub struct Context {
    /// The API server, for calls.
    pub client: Client,
    /// And for watches.
    pub watches: Client,
    /// What the operator was told.
    pub settings: Settings,
    /// What it counts.
    pub metrics: Metrics,
    /// Whether passes of clusters come to an end.
    pub pulse: Pulse,
    /// Whose turn it is to take up what an upgrade of the operator brings.
    pub turns: Turns,
    /// What was seen of clusters of which nothing was heard since.
    pub calm: Calm,
    /// Who has to wait after a start.
    pub start: Start,
    recorder: Recorder,
    /// Failures in a row, by kind, namespace and name; an entry goes with a success.
    failures: Mutex<HashMap<String, Failures>>,
    /// The last attempt to make room in a cluster that lacks it, by its UID. An entry goes with the alarm.
    rooms: Mutex<HashMap<String, Room>>,
    /// What was found in order lately, by what it is and its cluster's UID: in which form, and when.
    in_order: Mutex<HashMap<(&'static str, String), InOrder>>,
    /// With which Secrets a store is being asked, by its UID. An entry goes with the answer.
    asked: Mutex<HashMap<String, Option<String>>>,
    /// How members of a cluster were spoken to last, by its UID: a Secret that is missing keeps nobody
    /// from being healed. An entry goes with the cluster.
    clients: Mutex<HashMap<String, TlsClient>>,
    /// A member of a cluster with authentication that serves, by the cluster's UID, for its users and roles.
    /// An entry goes with the cluster, or with its quorum.
    speakers: Mutex<HashMap<String, MemberClient>>,
    /// Volumes that did not grow, and why. Entries go with the cluster.
    small: Mutex<HashMap<Asked, InOrder>>,
}

impl Context {
    /// With these.
    #[must_use]
    pub fn new(clients: Clients, settings: Settings, metrics: Metrics, pulse: Pulse) -> Self {
        let Clients {
            calls: client,
            watches,
        } = clients;
        let reporter = Reporter {
            controller: FIELD_MANAGER.into(),
            instance: Some(settings.identity.clone()),
        };
        let turns = Turns::new(settings.rolling_clusters.into());
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            watches,
            settings,
            metrics,
            pulse,
            turns,
            calm: Calm::default(),
            start: Start::default(),
            recorder,
            failures: Mutex::default(),
            rooms: Mutex::default(),
            in_order: Mutex::default(),
            asked: Mutex::default(),
            clients: Mutex::default(),
            speakers: Mutex::default(),
            small: Mutex::default(),
        }
    }

    /// Tells of something at an object. An event that cannot be written is only logged.
    pub async fn event<K>(&self, object: &K, warning: bool, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.event_of(object, None, warning, reason, note).await;
    }

    /// The same, of something that belongs to the object: events of one reason are counted as one for each
    /// of these, and only the first one's note is kept.
    pub async fn event_of<K>(
        &self,
        object: &K,
        related: Option<ObjectReference>,
        warning: bool,
        reason: &str,
        note: &str,
    ) where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(within(note, NOTE_MAX).to_owned()),
            action: reason.to_owned(),
            secondary: related,
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

    /// How often in a row an object has failed.
    pub fn failures(&self, key: &str) -> u32 {
        held(&self.failures).get(key).map_or(0, |last| last.count)
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

    /// The last attempt to make room in a cluster that lacks it.
    pub(super) fn room(&self, uid: &str) -> Option<Room> {
        held(&self.rooms).get(uid).cloned()
    }

    /// One begins.
    pub(super) fn begin_room(&self, uid: &str, now: i64) {
        let room = Room {
            begun: now,
            made: None,
        };
        held(&self.rooms).insert(uid.to_owned(), room);
    }

    /// It has ended.
    pub(super) fn end_room(&self, uid: &str, made: RoomMade) {
        if let Some(room) = held(&self.rooms).get_mut(uid) {
            room.made = Some(made);
        }
    }

    /// A cluster has room; what still runs for it is let run.
    pub(super) fn forget_room(&self, uid: &str) {
        let mut rooms = held(&self.rooms);
        if rooms.get(uid).is_some_and(|room| room.made.is_some()) {
            rooms.remove(uid);
        }
    }

    /// Whether something of a cluster was found in order in this form less than a minute ago: it is not
    /// looked at in every pass then.
    pub(super) fn is_in_order(&self, what: &'static str, uid: &str, form: &str) -> bool {
        self.found_within(LOOK_AGAIN, what, uid, form)
    }

    fn found_within(&self, limit: Duration, what: &'static str, uid: &str, form: &str) -> bool {
        let all = held(&self.in_order);
        let last = all.get(&(what, uid.to_owned()));
        last.is_some_and(|(last, when)| last == form && when.elapsed() < limit)
    }

    /// It is.
    pub(super) fn found_in_order(&self, what: &'static str, uid: &str, form: &str) {
        let found = (form.to_owned(), Instant::now());
        held(&self.in_order).insert((what, uid.to_owned()), found);
    }

    /// Everything is looked at anew.
    #[cfg(test)]
    pub(super) fn look_again(&self) {
        held(&self.in_order).clear();
        held(&self.small).clear();
    }

    /// Whether something of an object was found so in this form not long ago, where looking costs members work.
    pub(super) fn is_known(&self, what: &'static str, uid: &str, form: &str) -> bool {
        self.found_within(KNOWN_FOR, what, uid, form)
    }

    /// It is; where it was known already, that grows no younger.
    pub(super) fn now_known(&self, what: &'static str, uid: &str, form: &str) {
        if !self.is_known(what, uid, form) {
            self.found_in_order(what, uid, form);
        }
    }

    /// Why a volume did not grow that was asked to less than a minute ago.
    pub(super) fn grows_not(&self, asked: &Asked) -> Option<String> {
        let all = held(&self.small);
        let (said, when) = all.get(asked)?;
        (when.elapsed() < LOOK_AGAIN).then(|| said.clone())
    }

    /// It did not.
    pub(super) fn did_not_grow(&self, asked: Asked, said: String) {
        let mut all = held(&self.small);
        // Of what was asked for before nothing has to be known.
        all.retain(|one, _| one.claim != asked.claim);
        all.insert(asked, (said, Instant::now()));
    }

    /// Whether a store is being asked with these Secrets.
    pub(super) fn is_asked_with(&self, uid: &str, secrets: Option<&String>) -> bool {
        let asked = held(&self.asked);
        asked.get(uid).is_some_and(|with| with.as_ref() == secrets)
    }

    /// It is, from now on.
    pub(super) fn asks_with(&self, uid: &str, secrets: Option<String>) {
        held(&self.asked).insert(uid.to_owned(), secrets);
    }

    /// It has answered, or is gone.
    pub(super) fn has_asked(&self, uid: &str) {
        held(&self.asked).remove(uid);
    }

    /// Forgets an object that is gone.
    pub(super) fn forget_object(&self, uid: &str) {
        held(&self.in_order).retain(|(_, of), _| of != uid);
    }

    /// A member of a cluster with authentication that serves, if one does.
    pub fn speaker(&self, uid: &str) -> Option<MemberClient> {
        held(&self.speakers).get(uid).cloned()
    }

    /// Keeps it.
    pub fn keep_speaker(&self, uid: &str, client: &MemberClient) {
        held(&self.speakers).insert(uid.to_owned(), client.clone());
    }

    /// None does.
    pub fn forget_speaker(&self, uid: &str) {
        held(&self.speakers).remove(uid);
    }

    /// How members of a cluster were spoken to last.
    pub fn last_client(&self, uid: &str) -> Option<TlsClient> {
        held(&self.clients).get(uid).cloned()
    }

    /// Keeps how members of a cluster are spoken to.
    pub fn keep_client(&self, uid: &str, client: &TlsClient) {
        held(&self.clients).insert(uid.to_owned(), client.clone());
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, cluster: &EngramCluster) {
        let names = Names::of(cluster);
        self.metrics.forget(&names.namespace, &names.cluster);
        let key = calm::key(&names.namespace, &names.cluster);
        self.pulse.forget(&key);
        self.calm.forget(&key);
        let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
        self.turns.give_back(uid);
        self.forget_object(uid);
        self.forget_speaker(uid);
        held(&self.clients).remove(uid);
        held(&self.rooms).remove(uid);
        held(&self.small).retain(|asked, _| asked.cluster != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_by_bytes_between_characters() {
        assert_eq!(within("short", 1000), "short");
        let long = "\u{e4}".repeat(900);
        assert_eq!(within(&long, NOTE_MAX).len(), 1000);
        assert_eq!(within(&long, 999).len(), 998);
    }
}
