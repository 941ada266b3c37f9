//! Watchers: one at each member that goes on where it left off over all crashes, and visitors that begin
//! somewhere in the past.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use engram_process::threads::steps;
use engram_proto::etcdserverpb::WatchResponse;
use engram_proto::mvccpb::event::EventType;
use engram_server::api::backend::Backend as _;
use engram_server::types::{KeyRange, RangeEnd};
use engram_server::watch::{AUTO_WATCH_ID, Create, Filter, Request};
use prost::Message as _;

use crate::clients::text;
use crate::member::Member;
use crate::truth::Truth;

/// What a watcher of everything has got.
#[derive(Debug)]
pub struct Watched {
    /// Revisions, keys, and values where they were not deleted, in the order in which they came.
    events: Vec<(i64, String, Option<String>)>,
    /// Revisions that it was refused as compacted: from one up to another.
    gaps: Vec<(i64, i64)>,
    /// What it has not got yet.
    next: i64,
    /// The life of the member that it is open at.
    life: Option<u64>,
    is_broken: bool,
}

/// A watcher that tasks write to.
pub type Shared = Rc<RefCell<Watched>>;

impl Watched {
    /// One that begins at a revision.
    pub fn from(revision: i64) -> Shared {
        Rc::new(RefCell::new(Watched {
            events: Vec::new(),
            gaps: Vec::new(),
            next: revision,
            life: None,
            is_broken: false,
        }))
    }

    /// Whether it has everything up to a revision.
    pub fn has(&self, revision: i64) -> bool {
        self.next > revision
    }

    /// Whether it was refused, and nobody has opened it anew.
    pub fn is_refused(&self) -> bool {
        self.is_broken
    }

    fn take(&mut self, response: WatchResponse) {
        if response.compact_revision > 0 {
            self.gaps.push((self.next, response.compact_revision));
            self.next = self.next.max(response.compact_revision);
            self.is_broken = true;
            return;
        }
        assert!(!response.canceled, "a watch ends: {response:?}");
        for event in response.events {
            let is_put = event.r#type() == EventType::Put;
            let kv = event.kv.expect("an event has a key");
            let value = is_put.then(|| text(&kv.value));
            self.next = kv.mod_revision + 1;
            self.events.push((kv.mod_revision, text(&kv.key), value));
        }
    }

    /// What is wrong with what it got, held against what came to be; `compacted` is the greatest revision
    /// that anybody asked to be compacted.
    ///
    /// # Errors
    /// See above.
    pub fn judge(&self, began: i64, truth: &Truth, compacted: i64) -> Result<(), String> {
        if let Some(gap) = self.gaps.iter().find(|(_, upto)| *upto > compacted) {
            return Err(format!("it was refused {gap:?}, which nobody compacted"));
        }
        let is_missed = |revision: i64| {
            self.gaps
                .iter()
                .any(|(from, upto)| (*from..*upto).contains(&revision))
        };
        let wanted = truth
            .revisions()
            .filter(|(revision, _)| (began..self.next).contains(revision) && !is_missed(*revision));
        let mut wanted = wanted.flat_map(|(revision, revised)| {
            revised.changes.iter().map(move |change| (revision, change))
        });
        for (revision, key, value) in &self.events {
            match wanted.next() {
                Some((at, change))
                    if at == *revision && change.key == *key && change.value == *value => {}
                wanted => {
                    return Err(format!(
                        "it got {revision} {key} {value:?} where {wanted:?} was due"
                    ));
                }
            }
        }
        wanted
            .next()
            .map_or(Ok(()), |missed| Err(format!("it missed {missed:?}")))
    }
}

/// Opens a watcher at a member that has started anew, or that refused it. Whether it is open.
pub fn watch(member: &Member, watched: &Shared) -> bool {
    {
        let mut watched = watched.borrow_mut();
        if watched.life == Some(member.life) && !watched.is_broken {
            return true;
        }
        if !member.is_serving() {
            return false;
        }
        watched.is_broken = false;
    }
    let into = watched.clone();
    let opened = member.with(|staged, tasks| {
        let mut stream = staged.core.watch();
        stream.handle(Request::Create(Create {
            range: KeyRange {
                start: Bytes::from_static(b"\0"),
                end: RangeEnd::Unbounded,
            },
            start_revision: into.borrow().next,
            progress_notify: false,
            prev_kv: false,
            filter: Filter::default(),
            watch_id: AUTO_WATCH_ID,
            fragment: false,
            denied: None,
        }));
        tasks.spawn_local(async move {
            while !into.borrow().is_broken {
                let mut whole = BytesMut::new();
                stream.next().await.write_to(&mut whole);
                if steps::has_ended() {
                    return;
                }
                let response = WatchResponse::decode(whole.freeze()).expect("a response");
                into.borrow_mut().take(response);
            }
        });
    });
    if opened.is_some() {
        watched.borrow_mut().life = Some(member.life);
    }
    opened.is_some()
}
