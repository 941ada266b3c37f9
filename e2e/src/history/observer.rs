//! Watchers: those that see everything from the first revision on, one a member, and those that
//! come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use engram_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use engram_proto::mvccpb::event::EventType;

use super::{Clock, Kv, Moment};
use crate::client::{Client, revision_of};

/// Between two attempts to reach a member that does not answer.
const RETRY: Duration = Duration::from_millis(50);
/// The longest a watch may be silent: progress is notified more often, so the member is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its revision.
    pub revision: i64,
    /// Whether the key was deleted.
    pub is_delete: bool,
    /// The key after it; of a delete only key and revision.
    pub kv: Kv,
    /// The key before it, if the event told.
    pub before: Option<Kv>,
}

/// One message of a watch.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its events.
    pub events: Vec<Event>,
    /// The revision of its header.
    pub revision: i64,
    /// When it came.
    pub at: Moment,
}

impl Message {
    /// Whether it says no more than how far the watch has come.
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
    }
}

/// One watch from its creation to its end.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Who watched: one number a watcher, through all its resumptions.
    pub watcher: usize,
    /// The place of the member that was asked.
    pub member: usize,
    /// The one key watched; `None`: every key.
    pub key: Option<String>,
    /// The revision from which on: that after the last one seen.
    pub start: i64,
    /// What came, but for the message that it was created.
    pub messages: Vec<Message>,
}

/// What an observer is to watch.
#[derive(Clone, Debug)]
pub struct Post {
    /// Its number.
    pub watcher: usize,
    /// The place of the member that it watches.
    pub member: usize,
    /// Where that member is.
    pub address: SocketAddr,
    /// The one key to watch; `None`: every key.
    pub key: Option<String>,
    /// The first revision to see.
    pub start: i64,
}

/// A watcher that resumes where it was whenever its watch breaks.
pub struct Observer {
    post: Post,
    clock: Clock,
    /// The revision up to which it has seen everything.
    seen: Arc<AtomicI64>,
    watches: Vec<Watch>,
}

impl Observer {
    /// An observer; what it has seen is noted in `seen` as well.
    pub fn new(post: Post, clock: Clock, seen: Arc<AtomicI64>) -> Self {
        seen.store(post.start - 1, Ordering::SeqCst);
        Self {
            post,
            clock,
            seen,
            watches: Vec::new(),
        }
    }

    /// Watches until `stop` resolves; returns every watch.
    pub async fn observe(mut self, stop: impl Future<Output = ()>) -> Vec<Watch> {
        tokio::select! {
            () = stop => {}
            () = self.resume_for_ever() => {}
        }
        self.watches
    }

    async fn resume_for_ever(&mut self) {
        loop {
            // Any error means that the member is gone or wants to be asked again.
            let _ = self.watch_until_broken().await;
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn watch_until_broken(&mut self) -> Result<(), String> {
        let start = self.seen.load(Ordering::SeqCst) + 1;
        let mut client = Client::try_connect(self.post.address).await?;
        let (key, range_end) = match &self.post.key {
            Some(key) => (key.as_bytes().to_vec(), Vec::new()),
            None => (vec![0], vec![0]),
        };
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: start,
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let opened = client.watch_range(create).await;
        let mut messages = opened.map_err(|status| status.to_string())?;
        self.watches.push(Watch {
            watcher: self.post.watcher,
            member: self.post.member,
            key: self.post.key.clone(),
            start,
            messages: Vec::new(),
        });
        while let Ok(next) = tokio::time::timeout(SILENCE_MAX, messages.message()).await {
            let Some(message) = next.map_err(|status| status.to_string())? else {
                return Ok(());
            };
            self.note(&message)?;
        }
        Ok(())
    }

    fn note(&mut self, response: &WatchResponse) -> Result<(), String> {
        if response.canceled {
            return Err(response.cancel_reason.clone());
        }
        if response.created {
            return Ok(());
        }
        let message = Message {
            events: events_of(response),
            revision: revision_of(response.header.as_ref()),
            at: self.clock.now(),
        };
        // Progress counts: a resumption after it must miss nothing either.
        let reached = match message.events.last() {
            Some(event) => event.revision,
            None => message.revision,
        };
        self.seen.fetch_max(reached, Ordering::SeqCst);
        let watch = self.watches.last_mut().expect("pushed before it is read");
        watch.messages.push(message);
        Ok(())
    }
}

fn events_of(response: &WatchResponse) -> Vec<Event> {
    let told = response.events.iter();
    let told = told.filter_map(|event| Some((event, event.kv.as_ref()?)));
    told.map(|(event, kv)| Event {
        revision: kv.mod_revision,
        is_delete: event.r#type() == EventType::Delete,
        kv: Kv::of(kv),
        before: event.prev_kv.as_ref().map(Kv::of),
    })
    .collect()
}
