//! Random histories, watchers and streams against the plainest model: what a watcher is told is the
//! history filtered by its request.

use std::ops::Range;

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 6] = ["a", "a1", "b", "b1", "b2", "c"];
const RANGES: [(&str, &str); 6] = [
    ("a", ""),
    ("b", ""),
    ("a", "b"),
    ("b", "c"),
    ("a", "\0"),
    ("", "b1"),
];
const STREAMS: usize = 3;

#[derive(Clone, Debug)]
enum Action {
    /// One transaction, or several published as one batch.
    Batch(Vec<Vec<(usize, bool)>>),
    /// The store runs ahead of the hub until the next publication.
    Ahead(Vec<(usize, bool)>),
    Create {
        stream: usize,
        range: usize,
        start: i64,
        options: u8,
    },
    Cancel {
        stream: usize,
        id: i64,
    },
    Progress(usize),
    Poll {
        stream: usize,
        times: usize,
    },
    Yield,
    Compact(i64),
    Reset,
    Reopen(usize),
}

fn txn() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((0..KEYS.len(), prop::bool::weighted(0.7)), 1..4)
}

fn action() -> impl Strategy<Value = Action> {
    let stream = || Range {
        start: 0,
        end: STREAMS,
    };
    prop_oneof![
        8 => prop::collection::vec(txn(), 1..4).prop_map(Action::Batch),
        1 => txn().prop_map(Action::Ahead),
        5 => (stream(), 0..RANGES.len(), -8i64..4, 0u8..32).prop_map(
            |(stream, range, start, options)| Action::Create { stream, range, start, options }
        ),
        1 => (stream(), 0i64..6).prop_map(|(stream, id)| Action::Cancel { stream, id }),
        2 => stream().prop_map(Action::Progress),
        6 => (stream(), 1usize..6).prop_map(|(stream, times)| Action::Poll { stream, times }),
        2 => Just(Action::Yield),
        1 => (0i64..6).prop_map(Action::Compact),
        1 => Just(Action::Reset),
        1 => stream().prop_map(Action::Reopen),
    ]
}

type Told = (i64, String, Option<String>, Option<String>);

/// A watcher as its client sees it.
struct Expected {
    create: Create,
    /// The first revision it is owed.
    from: i64,
    /// Below this, its owner asked for no progress.
    progress_from: i64,
    told: Vec<Told>,
    unfinished: bool,
    created: bool,
    /// Its client asked for its end.
    canceled: bool,
    /// Compaction ended it, and its client has not cancelled it since.
    compacted: bool,
    /// Its end was told.
    ended: bool,
}

#[derive(Default)]
struct Client {
    stream: Option<WatchStream>,
    watchers: BTreeMap<i64, Expected>,
    next_id: i64,
    progress: Vec<i64>,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    /// (revision, key, value, value before), ascending.
    history: Vec<Told>,
    values: BTreeMap<String, String>,
    unpublished: Vec<Event>,
    value_count: usize,
}

impl Run {
    fn new(config: Config) -> Run {
        let world = World::new(config);
        let clients = (0..STREAMS).map(|_| Client::default()).collect();
        let (history, values, unpublished) = Default::default();
        let mut run = Run {
            world,
            clients,
            history,
            values,
            unpublished,
            value_count: 0,
        };
        for client in &mut run.clients {
            client.stream = Some(run.world.hub.open(None));
        }
        run
    }

    fn apply(&mut self, ops: &[(usize, bool)]) {
        let mut seen = Vec::new();
        let mut told = Vec::new();
        for &(key, put) in ops {
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            self.value_count += 1;
            told.push((
                KEYS[key],
                put.then(|| format!("value {}", self.value_count)),
            ));
        }
        let ops: Vec<_> = told
            .iter()
            .map(|(key, value)| (*key, value.as_deref()))
            .collect();
        let (revision, events) = self.world.store.apply(&ops);
        for (key, value) in told {
            let before = match &value {
                Some(value) => self.values.insert(key.to_owned(), value.clone()),
                None => self.values.remove(key),
            };
            if value.is_some() || before.is_some() {
                self.history
                    .push((revision.0, key.to_owned(), value, before));
            }
        }
        self.unpublished.extend(events);
    }

    fn publish(&mut self) {
        let events = std::mem::take(&mut self.unpublished);
        self.world.hub.publish(self.world.store.revision(), events);
    }

    fn create(&mut self, stream: usize, range: usize, start: i64, options: u8) {
        let head = self.world.store.revision().0;
        let start_revision = if start == -8 {
            0
        } else {
            (head + start).max(1)
        };
        let request = Create {
            start_revision,
            prev_kv: options & 1 != 0,
            fragment: options & 2 != 0,
            filter: Filter {
                no_put: options & 12 == 4,
                no_delete: options & 12 == 8,
            },
            ..create(RANGES[range].0, RANGES[range].1)
        };
        let client = &mut self.clients[stream];
        let expected = Expected {
            from: if start_revision == 0 {
                head + 1
            } else {
                start_revision
            },
            progress_from: if start_revision == 0 {
                head
            } else {
                start_revision
            },
            create: request.clone(),
            told: Vec::new(),
            unfinished: false,
            created: false,
            canceled: false,
            compacted: false,
            ended: false,
        };
        client.watchers.insert(client.next_id, expected);
        client.next_id += 1;
        client
            .stream
            .as_mut()
            .unwrap()
            .handle(Request::Create(request));
    }

    fn receive(&mut self, stream: usize) -> bool {
        let client = &mut self.clients[stream];
        let Some(response) = poll(client.stream.as_mut().unwrap()) else {
            return false;
        };
        client.check(
            &response,
            &self.history,
            self.world.store.compact_revision().0,
        );
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Batch(txns) => {
                txns.iter().for_each(|ops| self.apply(ops));
                self.publish();
            }
            Action::Ahead(ops) => self.apply(&ops),
            Action::Create {
                stream,
                range,
                start,
                options,
            } => {
                self.create(stream, range, start, options);
            }
            Action::Cancel { stream, id } => {
                let client = &mut self.clients[stream];
                client.stream.as_mut().unwrap().handle(Request::Cancel(id));
                if let Some(watcher) = client.watchers.get_mut(&id) {
                    watcher.canceled = true;
                }
            }
            Action::Progress(stream) => {
                self.clients[stream]
                    .stream
                    .as_mut()
                    .unwrap()
                    .handle(Request::Progress);
            }
            Action::Poll { stream, times } => {
                let _ = (0..times).all(|_| self.receive(stream));
            }
            Action::Yield => {}
            Action::Compact(back) => {
                let at = Revision((self.world.store.revision().0 - back).max(1));
                if at > self.world.store.compact_revision() {
                    self.world.store.compact(at);
                }
            }
            Action::Reset => {
                self.unpublished.clear();
                self.world.hub.reset(self.world.store.revision());
            }
            Action::Reopen(stream) => {
                self.clients[stream] = Client::default();
                self.clients[stream].stream = Some(self.world.hub.open(None));
            }
        }
    }

    /// Reads every stream to the end and checks that every watcher was told everything.
    async fn finish(mut self) {
        self.publish();
        for _ in 0..10_000 {
            let received = (0..STREAMS).filter(|&stream| self.receive(stream)).count();
            let metrics = self.world.hub.metrics();
            if received == 0 && metrics.slow_watchers == 0 && metrics.pending_events == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        for client in self.clients {
            client
                .watchers
                .values()
                .for_each(|watcher| watcher.check_complete(&self.history));
        }
    }
}

impl Client {
    fn check(&mut self, response: &WatchResponse, history: &[Told], compacted: i64) {
        let revision = revision_of(response);
        if response.watch_id == NO_WATCHER {
            assert!(!response.created && response.events.is_empty());
            self.check_progress(revision, history);
            return;
        }
        let watcher = self.watchers.get_mut(&response.watch_id);
        let watcher = watcher.expect("only watchers that were asked for are answered");
        if watcher.ended {
            // What compaction ended is cancelled once more, if its client asks for that.
            assert!(
                watcher.canceled && response.canceled,
                "nothing follows the end"
            );
            assert!(watcher.compacted && !response.created && response.compact_revision == 0);
            watcher.compacted = false;
            return;
        }
        assert_eq!(
            response.created, !watcher.created,
            "created comes first and once"
        );
        watcher.created = true;
        if response.canceled {
            assert!(response.compact_revision <= compacted);
            assert!(response.compact_revision > 0 || watcher.canceled);
            watcher.ended = true;
            watcher.compacted = response.compact_revision > 0;
            return;
        }
        watcher.check_events(response);
    }

    fn check_progress(&mut self, revision: i64, history: &[Told]) {
        assert!(self.progress.last().is_none_or(|last| *last <= revision));
        self.progress.push(revision);
        for watcher in self.watchers.values().filter(|watcher| watcher.created) {
            if watcher.canceled || watcher.ended || revision < watcher.progress_from {
                continue;
            }
            let owed = watcher
                .owed(history)
                .filter(|event| event.0 <= revision)
                .count();
            let told = watcher
                .told
                .iter()
                .filter(|event| event.0 <= revision)
                .count();
            assert_eq!(told, owed, "progress is told after every event up to it");
        }
    }
}

impl Expected {
    fn owed<'a>(&'a self, history: &'a [Told]) -> impl Iterator<Item = &'a Told> {
        let start = if self.create.range.start.is_empty() {
            "\0".into()
        } else {
            self.create.range.start.clone()
        };
        let range = KeyRange {
            start,
            end: self.create.range.end.clone(),
        };
        history.iter().filter(move |(revision, key, value, _)| {
            *revision >= self.from
                && range.contains(key.as_bytes())
                && self.create.filter.admits(value.is_none())
        })
    }

    fn check_events(&mut self, response: &WatchResponse) {
        assert_eq!(response.events.is_empty(), response.created);
        assert!(!response.fragment || self.create.fragment);
        let last_before = self.told.last().map_or(0, |event| event.0);
        let events = told(response);
        if let Some(first) = events.first()
            && !self.unfinished
        {
            assert!(
                first.0 > last_before,
                "a transaction is told in one response"
            );
        }
        self.unfinished = response.fragment;
        for ((revision, key, value), event) in events.into_iter().zip(&response.events) {
            assert!(revision <= revision_of(response));
            self.told.push((revision, key, value, value_before(event)));
        }
    }

    fn check_complete(&self, history: &[Told]) {
        assert!(self.created);
        let owed: Vec<_> = self.owed(history).cloned().collect();
        let told = &self.told;
        assert!(told.len() <= owed.len(), "{self:?}");
        assert!(told.len() == owed.len() || self.ended, "{self:?}");
        assert!(self.ended || !self.canceled, "a cancellation is answered");
        for (told, owed) in told.iter().zip(&owed) {
            assert_eq!((told.0, &told.1, &told.2), (owed.0, &owed.1, &owed.2));
            // The value before may be gone where compaction has passed.
            let gone = told.3.is_none();
            assert!(
                gone || (self.create.prev_kv && told.3 == owed.3),
                "{told:?} {owed:?}"
            );
        }
    }
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} from {}: told {:?}",
            self.create, self.from, self.told
        )
    }
}

fn config() -> impl Strategy<Value = Config> {
    (
        1usize..4000,
        1usize..8000,
        1usize..5,
        1usize..4000,
        60usize..400,
    )
        .prop_map(
            |(
                stream_queue_bytes,
                ring_bytes,
                history_revisions_max,
                history_bytes_max,
                fragment_bytes,
            )| {
                Config {
                    stream_queue_bytes,
                    ring_bytes,
                    history_revisions_max,
                    history_bytes_max,
                    fragment_bytes,
                    ..Config::default()
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_watcher_is_told_the_history_filtered_by_its_request(
        config in config(),
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(config);
            for action in actions {
                if matches!(action, Action::Yield) {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
                run.act(action);
            }
            run.finish().await;
        });
    }
}
