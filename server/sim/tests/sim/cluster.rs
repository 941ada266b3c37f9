//! A cluster under faults, turn by turn, and what must hold at every turn and in the end.

use std::collections::BTreeMap;
use std::path::Path;

use engram_server::types::KeyValue;

use crate::clients::{Clients, text};
use crate::history::{self, Truth};
use crate::member::{Member, TICK};
use crate::net::Net;
use crate::random::Random;
use crate::system::EPOCH_NS;

const NS_A_MS: u64 = 1_000_000;
/// How long faults come, and how long they have to be forgotten afterwards. Virtual milliseconds.
const FAULTS_MS: u64 = 6_000;
const HEALS_MS: u64 = 10_000;

/// A member's engine is flushed once in so many turns.
const FLUSHED_EVERY: u64 = 300;

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls that ended, and how many of them with an answer.
    pub calls: usize,
    /// See above.
    pub answered: usize,
    /// The last revision.
    pub revision: i64,
    /// Crashes, and faults of any other kind.
    pub crashes: u64,
    /// See above.
    pub faults: u64,
    /// Virtual milliseconds that passed.
    pub ms: u64,
    /// A checksum over everything that was told, in order.
    pub trace: u32,
}

/// A fault that ends.
struct Until {
    ms: u64,
    end: End,
}

enum End {
    Start(usize),
    Mend(usize, usize),
    Quicken,
}

struct Cluster {
    net: Net,
    members: Vec<Member>,
    clients: Clients,
    random: Random,
    ends: Vec<Until>,
    now_ms: u64,
    next_fault_ms: u64,
    report: Report,
    /// What the store's revision is once an entry is applied: the same at every member.
    revisions: BTreeMap<u64, i64>,
    /// Who leads a term.
    leaders: BTreeMap<u64, usize>,
}

/// Runs a seed.
///
/// # Errors
/// What does not hold, in words.
pub fn run(seed: u64, root: &Path) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let size = if random.once_in(8) { 5 } else { 3 };
    let net = Net::new(size, random.next());
    let mut members: Vec<Member> = (0..size)
        .map(|place| Member::new(place, size, root))
        .collect();
    for member in &mut members {
        member.start(&net);
    }
    let clients = Clients::new(size, random.next());
    let mut cluster = Cluster {
        net,
        members,
        clients,
        random,
        ends: Vec::new(),
        now_ms: 0,
        next_fault_ms: 1_500,
        report: Report::default(),
        revisions: BTreeMap::new(),
        leaders: BTreeMap::new(),
    };
    cluster.live()?;
    let judged = cluster.judge();
    cluster.report.ms = cluster.now_ms;
    judged.map(|()| cluster.report)
}

impl Cluster {
    fn now_ns(&self) -> u64 {
        EPOCH_NS + self.now_ms * NS_A_MS
    }

    fn live(&mut self) -> Result<(), String> {
        while self.now_ms < FAULTS_MS {
            if self.now_ms >= self.next_fault_ms {
                self.fault();
                self.next_fault_ms = self.now_ms + self.random.between(50, 700);
            }
            self.turn(true)?;
        }
        self.net.heal();
        self.ends.retain(|until| matches!(until.end, End::Start(_)));
        let heals_by = self.now_ms + HEALS_MS;
        while !self.is_healed() {
            if self.now_ms > heals_by {
                return Err(format!(
                    "not everybody serves after {HEALS_MS} ms without a fault"
                ));
            }
            let makes_calls = self.now_ms < heals_by - HEALS_MS + 500;
            self.turn(makes_calls)?;
        }
        Ok(())
    }

    fn turn(&mut self, makes_calls: bool) -> Result<(), String> {
        self.now_ms += u64::try_from(TICK.as_millis()).expect("a millisecond");
        let now_ns = self.now_ns();
        self.end_faults();
        self.net.pump(now_ns);
        let first = self.random.index(self.members.len());
        for step in 0..self.members.len() {
            let place = (first + step) % self.members.len();
            self.members[place].turn(now_ns);
        }
        crate::system::set_now_ns(now_ns);
        if self.random.once_in(FLUSHED_EVERY) {
            self.members[first].flush();
        }
        self.clients.turn(&self.members, now_ns, makes_calls);
        self.look()
    }

    /// What must hold at every moment.
    fn look(&mut self) -> Result<(), String> {
        for member in &self.members {
            let Some(shown) = member.shown() else {
                continue;
            };
            let first = *self
                .revisions
                .entry(shown.applied)
                .or_insert(shown.revision);
            if first != shown.revision {
                return Err(format!(
                    "after entry {} m{} is at revision {}, another was at {first}",
                    shown.applied, member.place, shown.revision
                ));
            }
            if let Some(term) = shown.leads {
                let leader = *self.leaders.entry(term).or_insert(member.place);
                if leader != member.place {
                    return Err(format!("m{leader} and m{} lead term {term}", member.place));
                }
            }
        }
        Ok(())
    }

    fn fault(&mut self) {
        let place = self.random.index(self.members.len());
        let other = (place + 1 + self.random.index(self.members.len() - 1)) % self.members.len();
        let lasts = self.random.between(50, 1_500);
        self.report.faults += 1;
        match self.random.below(8) {
            0..=2 => self.crash(place, lasts),
            3 => self.cut(place, other, lasts),
            4 => {
                for other in (0..self.members.len()).filter(|other| *other != place) {
                    self.cut(place, other, lasts);
                    self.cut(other, place, lasts);
                }
            }
            5 => self.members[place].paused_until_ns = self.now_ns() + lasts * NS_A_MS,
            6 => self.members[place].disk_stalled_until_ns = self.now_ns() + lasts * NS_A_MS,
            _ if self.random.once_in(2) => self.net.reset(place, other),
            _ => {
                self.net.delay(self.random.between(5, 60));
                self.until(lasts, End::Quicken);
            }
        }
    }

    fn until(&mut self, lasts: u64, end: End) {
        let ms = self.now_ms + lasts;
        self.ends.push(Until { ms, end });
    }

    fn crash(&mut self, place: usize, lasts: u64) {
        if !self.members[place].is_up() {
            return;
        }
        self.report.crashes += 1;
        self.members[place].crash(&self.net, &mut self.random);
        self.until(lasts, End::Start(place));
    }

    fn cut(&mut self, from: usize, to: usize, lasts: u64) {
        self.net.cut(from, to, true);
        self.until(lasts, End::Mend(from, to));
    }

    fn end_faults(&mut self) {
        let now = self.now_ms;
        let (ended, left) = std::mem::take(&mut self.ends)
            .into_iter()
            .partition(|until| until.ms <= now);
        self.ends = left;
        for until in ended {
            match until.end {
                End::Start(place) => self.members[place].start(&self.net),
                End::Mend(from, to) => self.net.cut(from, to, false),
                End::Quicken => self.net.delay(1),
            }
        }
    }

    /// Everybody is up, has applied the same, serves a leader; nobody waits; watchers have it all.
    fn is_healed(&self) -> bool {
        let shown: Vec<_> = self.members.iter().filter_map(Member::shown).collect();
        let is_even = shown.len() == self.members.len()
            && shown
                .windows(2)
                .all(|pair| pair[0].applied == pair[1].applied);
        let revision = shown.first().map_or(0, |shown| shown.revision);
        let has_all = |watched: &std::rc::Rc<std::cell::RefCell<crate::clients::Watched>>| {
            let watched = watched.borrow();
            watched.events.last().map_or(1, |(revision, ..)| *revision) == revision
        };
        is_even
            && self.ends.is_empty()
            && self.now_ms > FAULTS_MS + 1_000
            && shown.iter().any(|shown| shown.leads.is_some())
            && self.clients.is_idle()
            && self.clients.watched.iter().all(has_all)
    }

    /// What must hold in the end.
    fn judge(&mut self) -> Result<(), String> {
        let truths: Vec<Truth> = self.members.iter().map(truth).collect();
        if truths.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err("members that applied the same hold another state".into());
        }
        let calls = &self.clients.calls;
        history::judge(calls, &truths[0])?;
        for (place, watched) in self.clients.watched.iter().enumerate() {
            let watched = watched.borrow();
            let seen = watched.events.iter();
            let held = truths[0].iter().map(|(at, (key, value))| (*at, key, value));
            if !seen.map(|(at, key, value)| (*at, key, value)).eq(held) {
                return Err(format!("the watcher at m{place} did not see what happened"));
            }
        }
        self.report.calls = calls.len();
        let answered = |call: &&history::Call| call.told != history::Told::Unknown;
        self.report.answered = calls.iter().filter(answered).count();
        self.report.revision = truths[0].keys().next_back().copied().unwrap_or(1);
        self.report.trace = crc32c::crc32c(format!("{calls:?}").as_bytes());
        Ok(())
    }
}

/// Everything that a member's store has kept.
fn truth(member: &Member) -> Truth {
    let read = member.with(|staged, _| {
        let mut truth = Truth::new();
        staged.core.store.engine().with_view(|scanner| {
            scanner.records(&mut |record| {
                let kv = KeyValue::decode(&record.encoded).expect("it is sound");
                truth.insert(record.pair.main.0, (text(&kv.key), text(&kv.value)));
                true
            });
        });
        truth
    });
    read.expect("it serves")
}
