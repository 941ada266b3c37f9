//! Clients: puts and reads at any member, and a watcher at each that goes on where it left off.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use engram_proto::etcdserverpb::WatchResponse;
use engram_server::api::backend::{Backend as _, ServeError};
use engram_server::node::Core;
use engram_server::types::request::{Op, Put, Range};
use engram_server::types::{KeyRange, KeyValue, LeaseId, RangeEnd};
use engram_server::watch::{AUTO_WATCH_ID, Create, Filter, Request};
use prost::Message as _;

use crate::history::{Call, Told};
use crate::member::Member;
use crate::random::Random;
use crate::system;

/// Keys that are written and read.
const KEYS: u64 = 6;
/// Calls under way at most.
const AT_ONCE: usize = 12;

/// A call under way: to which life of which member.
struct Pending {
    place: usize,
    life: u64,
    call: Call,
    answer: Rc<RefCell<Option<(u64, Told)>>>,
}

/// What a watcher of everything has got: revisions, keys and values, over all its streams.
#[derive(Default)]
pub struct Watched {
    /// In the order in which they came.
    pub events: Vec<(i64, String, String)>,
    life: Option<u64>,
}

/// All of them.
pub struct Clients {
    random: Random,
    pending: Vec<Pending>,
    /// The calls that have ended.
    pub calls: Vec<Call>,
    /// The watcher at each member.
    pub watched: Vec<Rc<RefCell<Watched>>>,
    made: u64,
}

impl Clients {
    /// Clients of so many members.
    pub fn new(members: usize, seed: u64) -> Clients {
        Clients {
            random: Random::new(seed),
            pending: Vec::new(),
            calls: Vec::new(),
            watched: (0..members).map(|_| Rc::default()).collect(),
            made: 0,
        }
    }

    /// Takes in answers, and `makes_calls` now and then.
    pub fn turn(&mut self, members: &[Member], now_ns: u64, makes_calls: bool) {
        self.collect(members, now_ns);
        if makes_calls && self.pending.len() < AT_ONCE && self.random.once_in(6) {
            let place = self.random.index(members.len());
            self.call(&members[place], now_ns);
        }
        for (member, watched) in members.iter().zip(&self.watched) {
            watch(member, watched);
        }
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes in answers. What a crash took with it has an unknown outcome.
    fn collect(&mut self, members: &[Member], now_ns: u64) {
        let mut left = Vec::new();
        for pending in self.pending.drain(..) {
            let answer = pending.answer.borrow_mut().take();
            let mut call = pending.call;
            match answer {
                Some((ended_ns, told)) => (call.ended_ns, call.told) = (ended_ns, told),
                None if members[pending.place].life != pending.life => call.ended_ns = now_ns,
                None => {
                    left.push(Pending {
                        call,
                        answer: pending.answer,
                        ..pending
                    });
                    continue;
                }
            }
            self.calls.push(call);
        }
        self.pending = left;
    }

    fn call(&mut self, member: &Member, now_ns: u64) {
        let key = format!("key-{}", self.random.below(KEYS));
        self.made += 1;
        let value = self
            .random
            .once_in(2)
            .then(|| format!("value-{}", self.made));
        let answer: Rc<RefCell<Option<(u64, Told)>>> = Rc::default();
        let (into, asked, put) = (answer.clone(), key.clone(), value.clone());
        let made = member.with(|staged, tasks| {
            let core = staged.core.clone();
            tasks.spawn_local(async move {
                let told = match put {
                    Some(value) => make(&core, asked, value).await,
                    None => read(&core, asked).await,
                };
                *into.borrow_mut() = Some((system::now_ns(), told));
            });
        });
        if made.is_some() {
            self.pending.push(Pending {
                place: member.place,
                life: member.life,
                call: Call {
                    began_ns: now_ns,
                    ended_ns: 0,
                    key,
                    value,
                    told: Told::Unknown,
                },
                answer,
            });
        }
    }
}

async fn make(core: &Core, key: String, value: String) -> Told {
    let put = Op::Put(Put {
        key: key.into(),
        value: value.into(),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    });
    match core.propose(put).await {
        Ok(outcome) => Told::Put(outcome.revision.0),
        Err(
            ServeError::Timeout
            | ServeError::TimeoutLeaderFail
            | ServeError::TimeoutConnectionLost
            | ServeError::Stopped
            | ServeError::Internal(_),
        ) => Told::Unknown,
        Err(_) => Told::Refused,
    }
}

async fn read(core: &Core, key: String) -> Told {
    let query = Range::all(KeyRange::single(key.into()));
    if core.read_barrier().await.is_err() {
        return Told::Unknown;
    }
    let Ok(answer) = core.range(&query).await else {
        return Told::Unknown;
    };
    let value = answer.found.items.first().map(|item| {
        let kv = KeyValue::decode(&Bytes::copy_from_slice(item.as_ref())).expect("it is sound");
        text(&kv.value)
    });
    Told::Read(answer.head.0, value)
}

/// Bytes that these clients wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Opens the watcher of a member that has started anew.
fn watch(member: &Member, watched: &Rc<RefCell<Watched>>) {
    if watched.borrow().life == Some(member.life) {
        return;
    }
    let into = watched.clone();
    let opened = member.with(|staged, tasks| {
        let mut stream = staged.core.watch();
        let last = into
            .borrow()
            .events
            .last()
            .map_or(0, |(revision, ..)| *revision);
        stream.handle(Request::Create(Create {
            range: KeyRange {
                start: Bytes::from_static(b"\0"),
                end: RangeEnd::Unbounded,
            },
            start_revision: last + 1,
            progress_notify: false,
            prev_kv: false,
            filter: Filter::default(),
            watch_id: AUTO_WATCH_ID,
            fragment: false,
            denied: None,
        }));
        tasks.spawn_local(async move {
            loop {
                let mut whole = BytesMut::new();
                stream.next().await.write_to(&mut whole);
                let response = WatchResponse::decode(whole.freeze()).expect("a response");
                assert!(!response.canceled, "a watch ends: {response:?}");
                let events = response.events.into_iter().filter_map(|event| event.kv);
                let events = events.map(|kv| (kv.mod_revision, text(&kv.key), text(&kv.value)));
                into.borrow_mut().events.extend(events);
            }
        });
    });
    if opened.is_some() {
        watched.borrow_mut().life = Some(member.life);
    }
}
