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

/// A watcher asks for its stream's progress after so many answers.
const ASKS_EVERY: usize = 7;

/// An event as it was told.
#[derive(Debug)]
struct Event {
    revision: i64,
    key: String,
    /// None where it was deleted.
    value: Option<String>,
    /// Whether it is said to have made the key.
    is_creation: bool,
    /// What was there before: when it was put, and its value.
    before: Option<(i64, String)>,
}

/// What a watcher of everything has got.
#[derive(Debug)]
pub struct Watched {
    /// In the order in which they came.
    events: Vec<Event>,
    /// Revisions up to which everything was said to have come, and how many events had by then.
    progress: Vec<(i64, usize)>,
    answers: usize,
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
            progress: Vec::new(),
            answers: 0,
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
        if response.events.is_empty() && !response.created {
            let header = response.header.expect("an answer has a header");
            self.progress.push((header.revision, self.events.len()));
        }
        for event in response.events {
            let is_put = event.r#type() == EventType::Put;
            let kv = event.kv.expect("an event has a key");
            let before = event.prev_kv;
            self.next = kv.mod_revision + 1;
            self.events.push(Event {
                revision: kv.mod_revision,
                key: text(&kv.key),
                value: is_put.then(|| text(&kv.value)),
                is_creation: is_put && kv.create_revision == kv.mod_revision && kv.version == 1,
                before: before.map(|kv| (kv.mod_revision, text(&kv.value))),
            });
        }
    }

    /// Whether it is time to ask for progress: after so many answers.
    fn asks(&mut self) -> bool {
        self.answers += 1;
        self.answers.is_multiple_of(ASKS_EVERY)
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
        for event in &self.events {
            match wanted.next() {
                Some((at, change))
                    if at == event.revision
                        && change.key == event.key
                        && change.value == event.value => {}
                wanted => return Err(format!("it got {event:?} where {wanted:?} was due")),
            }
            event.fits_before(truth, compacted)?;
        }
        if let Some(missed) = wanted.next() {
            return Err(format!("it missed {missed:?}"));
        }
        self.progress.iter().try_for_each(|(revision, had)| {
            let late = self.events[*had..]
                .iter()
                .find(|event| event.revision <= *revision);
            late.map_or(Ok(()), |late| {
                Err(format!(
                    "it was told to have {revision}, and then got {late:?}"
                ))
            })
        })
    }
}

impl Event {
    /// What was there before it: nobody tells of it where a compaction may have taken it.
    fn fits_before(&self, truth: &Truth, compacted: i64) -> Result<(), String> {
        let was = truth.at(&self.key, self.revision - 1);
        let fits = match (&self.before, was) {
            (Some((revision, value)), Some(was)) => {
                (*revision, value) == (was.revision, &was.value)
            }
            (Some(_), None) => false,
            (None, Some(_)) => self.revision - 1 < compacted,
            (None, None) => true,
        };
        if !fits {
            return Err(format!("{self:?} came after {was:?}"));
        }
        let is_put = self.value.is_some();
        match self.is_creation == (is_put && was.is_none()) {
            true => Ok(()),
            false => Err(format!("{self:?} is told of a key that was {was:?}")),
        }
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
            progress_notify: true,
            prev_kv: true,
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
                let mut watched = into.borrow_mut();
                watched.take(response);
                if watched.asks() {
                    stream.handle(Request::Progress);
                }
            }
        });
    });
    if opened.is_some() {
        watched.borrow_mut().life = Some(member.life);
    }
    opened.is_some()
}
