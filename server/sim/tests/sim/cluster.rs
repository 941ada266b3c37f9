//! A cluster under faults, turn by turn, and what must hold at every turn and in the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engram_server::storage::Identity;
use engram_server::store::Level;

use crate::admin::{ADDED_MAX, Admin, Order};
use crate::alarm::Alarm;
use crate::clients::Clients;
use crate::faults::{self, Fault, Kind, Spoilt};
use crate::history::{self, Told};
use crate::logs::Logs;
use crate::member::{Made, Member, Shown, TICK, Turn};
use crate::net::Net;
use crate::random::Random;
use crate::service::Service;
use crate::system::{self, EPOCH_NS};
use crate::truth::Truth;

/// When faults begin, how long they come, and how long they have to be forgotten afterwards. Virtual
/// milliseconds.
const QUIET_MS: u64 = 1_600;
const FAULTS_MS: u64 = 6_000;
/// Within which time members are first started. Virtual milliseconds.
const STARTS_WITHIN_MS: u64 = 600;
/// One seed in so many goes on for longer, with pauses of up to a minute.
const LONG_ONCE_IN: u64 = 32;
const LONG_MS: u64 = 75_000;
/// Its faults come that much slower.
const LONG_PACE: u64 = 5;
/// In one of so many all of it happens to one member, for so long.
const VICTIM_ONCE_IN: u64 = 4;
const VICTIM_MS: u64 = 12_000;
const HEALS_MS: u64 = 10_000;

/// A disk is full for so many times as long as other faults last, and whoever takes what a member gives up does
/// so after that long. Virtual milliseconds.
const FULL_TIMES: u64 = 3;
const REFILLED_MS: u64 = 250;
/// How long a member is down that is to be sent a snapshot. Virtual milliseconds.
const BEHIND_MS: u64 = 2_000;
/// A member's engine is flushed once in so many turns.
const FLUSHED_EVERY: u64 = 300;

/// What a seed runs with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The numbers of faults that are left out.
    pub without: Vec<u64>,
    /// When the last fault comes. Virtual milliseconds.
    pub until_ms: u64,
    /// Whether faults are slower, and pauses longer.
    is_long: bool,
}

impl Plan {
    /// All faults of a seed.
    pub fn of(seed: u64) -> Plan {
        let until_ms = match seed % LONG_ONCE_IN {
            7 => LONG_MS,
            _ if has_victim(seed) => VICTIM_MS,
            _ => FAULTS_MS,
        };
        Plan {
            seed,
            without: Vec::new(),
            until_ms,
            is_long: until_ms == LONG_MS,
        }
    }
}

fn has_victim(seed: u64) -> bool {
    seed % VICTIM_ONCE_IN == 2
}

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls that ended, and how many of them with an answer.
    pub calls: usize,
    /// See above.
    pub answered: usize,
    /// The last revision.
    pub revision: i64,
    /// The last revision that was asked to be compacted.
    pub compacted: i64,
    /// Crashes, and faults of any kind.
    pub crashes: u64,
    /// See above.
    pub faults: u64,
    /// Members that came and went.
    pub changes: u64,
    /// How often NOSPACE was raised.
    pub alarms: usize,
    /// The longest that clients of a member were told of no write, where another one alone is at fault. Virtual
    /// milliseconds.
    pub unserved_ms: u64,
    /// Turns of members that were short of room, full, and spent.
    pub without_room: [u64; 3],
    /// The last entry, and the last that a log was cut below.
    pub entries: u64,
    /// See above.
    pub purged: u64,
    /// Virtual milliseconds that passed.
    pub ms: u64,
    /// A checksum over everything that was told, in order.
    pub trace: u32,
}

/// A fault that ends, or goes on to something else.
struct Until {
    ms: u64,
    end: End,
}

enum End {
    Start(usize),
    Crash(usize, u64),
    Mend(usize, usize),
    Quicken,
    Spare(usize),
    Empty(usize),
    Refill(usize, u64),
    Spoil(usize, Spoilt, u64),
    Stall(usize, u64),
    Isolate(usize, u64),
}

/// What a store is once an entry is applied: revision, compacted revision, leases, whether NOSPACE is raised.
type State = (i64, i64, usize, bool);

/// A cluster that runs.
pub struct Cluster {
    plan: Plan,
    root: PathBuf,
    compares: bool,
    net: Net,
    members: Vec<Member>,
    clients: Clients,
    /// Some clusters have one.
    admin: Option<Admin>,
    truth: Truth,
    logs: Logs,
    service: Service,
    alarm: Alarm,
    random: Random,
    ends: Vec<Until>,
    /// Members whose power is cut when they are in a later term than this, and for how long.
    at_term: Vec<(usize, u64, u64)>,
    now_ms: u64,
    next_fault: (u64, u64),
    report: Report,
    /// The same at every member.
    states: BTreeMap<u64, State>,
    /// Who leads a term.
    leaders: BTreeMap<u64, usize>,
    /// The greatest index that anybody has applied.
    applied: u64,
}

/// Runs a seed: the faults that came, and what became of it.
pub fn run(plan: &Plan, root: &Path) -> (Vec<Fault>, Result<Report, String>) {
    let mut random = Random::new(plan.seed);
    let size = match random.below(10) {
        0 => 5,
        1 => 1,
        _ => 3,
    };
    let net = Net::new(size + ADDED_MAX, random.next());
    // Some clusters compare their members' stores: no one of them may be called corrupt.
    let compares = random.once_in(4);
    let made = Made { root, compares };
    let members = (0..size).map(|place| Member::new(place, size, made, random.next()));
    let members = members.collect();
    let clients = Clients::new(size, random.next());
    let is_administered = random.once_in(3);
    let victim = random.index(size);
    let victim = (has_victim(plan.seed) && size > 1).then_some(victim);
    let admin = (is_administered && victim.is_none()).then(|| Admin::new(random.next()));
    let mut cluster = Cluster {
        plan: plan.clone(),
        root: root.to_path_buf(),
        net,
        compares,
        members,
        clients,
        logs: Logs::of(admin.is_none().then_some(size)),
        admin,
        service: Service::of(victim, size, EPOCH_NS + QUIET_MS * system::NS_A_MS),
        truth: Truth::default(),
        alarm: Alarm::default(),
        random,
        ends: Vec::new(),
        at_term: Vec::new(),
        now_ms: 0,
        next_fault: (QUIET_MS, 0),
        report: Report::default(),
        states: BTreeMap::new(),
        leaders: BTreeMap::new(),
        applied: 0,
    };
    // Whatever members do every second they do not all do at the same moment.
    for place in 0..size {
        let ms = cluster.random.below(STARTS_WITHIN_MS);
        cluster.ends.push(Until {
            ms,
            end: End::Start(place),
        });
    }
    let mut came = Vec::new();
    let lived = cluster.live(&mut came).and_then(|()| cluster.judge());
    cluster.report.ms = cluster.now_ms;
    (came, lived.map(|()| cluster.report))
}

impl Cluster {
    fn now_ns(&self) -> u64 {
        EPOCH_NS + self.now_ms * system::NS_A_MS
    }

    fn live(&mut self, came: &mut Vec<Fault>) -> Result<(), String> {
        while self.now_ms < self.plan.until_ms {
            while self.now_ms >= self.next_fault.0 {
                self.next(came);
            }
            self.turn(true)?;
        }
        self.heal();
        let heals_by = self.now_ms + HEALS_MS;
        while let Err(why) = self.is_healed() {
            if self.now_ms > heals_by {
                return Err(format!("{HEALS_MS} ms after the last fault {why}"));
            }
            let makes_calls = self.now_ms < heals_by - HEALS_MS + 500;
            self.turn(makes_calls)?;
        }
        Ok(())
    }

    /// Has the next fault come, and draws when the one after it does.
    fn next(&mut self, came: &mut Vec<Fault>) {
        let (at, number) = self.next_fault;
        let pause = Random::new(self.plan.seed.rotate_left(17) ^ number).between(30, 600);
        let pace = if self.plan.is_long { LONG_PACE } else { 1 };
        self.next_fault = (at + pace * pause, number + 1);
        if at > self.plan.until_ms || self.plan.without.contains(&number) {
            return;
        }
        let mut fault = faults::draw(self.plan.seed, number, self.members.len());
        if self.plan.is_long {
            fault.pause_long(self.plan.seed);
        }
        if let Some(victim) = self.service.victim() {
            fault.befall(victim, self.members.len(), self.plan.seed);
        }
        self.begin(&fault);
        self.report.faults += 1;
        came.push(fault);
    }

    /// Ends whatever is wrong.
    fn heal(&mut self) {
        self.net.heal();
        self.at_term.clear();
        self.ends.retain(|until| matches!(until.end, End::Start(_)));
        for member in &mut self.members {
            member.paused_until_ns = 0;
            member.hurry();
            member.spare();
            member.empty_disk();
        }
    }

    fn turn(&mut self, makes_calls: bool) -> Result<(), String> {
        self.now_ms += u64::try_from(TICK.as_millis()).expect("a millisecond");
        system::set_true_ns(self.now_ns());
        self.end_faults();
        self.net.pump(self.now_ns());
        let first = self.random.index(self.members.len());
        let mut worked = Vec::new();
        for step in 0..self.members.len() {
            let place = (first + step) % self.members.len();
            match self.members[place].turn() {
                Turn::Idle => {}
                Turn::Worked => worked.push(place),
                Turn::Ended => {
                    self.service.ended(place)?;
                    // What it had written before may have been told.
                    if let Some(shown) = self.members[place].shown() {
                        self.logs.note(place, &shown);
                    }
                    let lasts = self.random.between(20, 800);
                    self.crash(place, lasts);
                }
            }
        }
        system::set_true_ns(self.now_ns());
        if self.random.once_in(FLUSHED_EVERY) {
            self.members[first].flush();
        }
        let shown = |place: usize| Some((place, self.members[place].shown()?));
        let shown: Vec<_> = worked.into_iter().filter_map(shown).collect();
        let starting = |member: &&Member| member.is_up() && !member.is_serving();
        for member in self.members.iter().filter(starting) {
            self.logs.lose_sight(member.place);
        }
        for (place, shown) in &shown {
            self.logs.note(*place, shown);
        }
        for (place, shown) in shown {
            self.look(place, shown)?;
        }
        let now_ns = system::true_ns();
        for member in &mut self.members {
            member.hears_of_flushes(now_ns)?;
        }
        self.alarm.turn(&self.members, &self.net, now_ns)?;
        let (members, truth) = (&self.members, &self.truth);
        self.clients
            .turn(members, truth, &mut self.service, makes_calls);
        if makes_calls {
            self.service.look(now_ns)?;
        }
        let order = self
            .admin
            .as_mut()
            .and_then(|admin| admin.turn(&self.members, makes_calls));
        order.into_iter().for_each(|order| self.obey(order));
        Ok(())
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Start(place, id) => {
                let cluster = self
                    .members
                    .iter()
                    .find_map(|member| member.with(|staged, _| staged.core.cluster));
                let identity = Identity {
                    cluster: cluster.expect("somebody has answered"),
                    member: id,
                    incarnation: self.random.next().max(1),
                };
                let made = Made {
                    root: &self.root,
                    compares: self.compares,
                };
                let mut member = Member::joining(place, &identity, made, self.random.next());
                member.start(&self.net);
                self.members.push(member);
                self.clients.watch_another();
            }
            Order::Retire(place) => {
                self.members[place].is_gone = true;
                self.members[place].crash(&self.net, &mut self.random);
            }
        }
        self.report.changes += 1;
    }

    /// What must hold at every moment, of a member that has just done something.
    fn look(&mut self, place: usize, shown: Shown) -> Result<(), String> {
        self.members[place].goes_on(shown)?;
        if shown.is_corrupt {
            return Err(format!("m{place} has CORRUPT raised, and nobody is"));
        }
        self.is_the_same(place, shown)?;
        self.logs.look(place, &shown)?;
        self.alarm.learn(place, &shown, system::true_ns())?;
        match shown.level {
            Level::Enough => {}
            Level::Short => self.report.without_room[0] += 1,
            Level::Full => self.report.without_room[1] += 1,
            Level::Spent => self.report.without_room[2] += 1,
        }
        self.leads_alone(place, shown)?;
        self.compare(place, shown)?;
        self.cut_at_term(place, shown);
        Ok(())
    }

    /// Members that have applied the same are in the same state.
    fn is_the_same(&mut self, place: usize, shown: Shown) -> Result<(), String> {
        let state = (
            shown.revision,
            shown.compacted,
            shown.leases,
            shown.is_alarmed,
        );
        let first = *self.states.entry(shown.applied).or_insert(state);
        self.applied = self.applied.max(shown.applied);
        match first == state {
            true => Ok(()),
            false => Err(format!(
                "after entry {} m{place} is at {state:?}, another was at {first:?}",
                shown.applied
            )),
        }
    }

    /// A term has one leader, and that has all that was applied anywhere of the terms before. Of later ones it need
    /// not: who comes to lead behind a pause or a slow log is told last that others have a new leader.
    fn leads_alone(&mut self, place: usize, shown: Shown) -> Result<(), String> {
        let Some(term) = shown.leads else {
            return Ok(());
        };
        if let Some(leader) = self.leaders.insert(term, place) {
            return match leader == place {
                true => Ok(()),
                false => Err(format!("m{leader} and m{place} lead term {term}")),
            };
        }
        let applied = self.logs.applied_before(term);
        match shown.last >= applied {
            true => Ok(()),
            false => Err(format!(
                "m{place} leads term {term} with a log that ends at {}, and {applied} was applied before",
                shown.last
            )),
        }
    }

    /// What a member has applied is what others have.
    fn compare(&mut self, place: usize, shown: Shown) -> Result<(), String> {
        let member = &mut self.members[place];
        if member.compared >= shown.revision {
            return Ok(());
        }
        let held = member.held(member.compared + 1).expect("it shows itself");
        member.compared = held.upto;
        let met = self.truth.meet(&held, system::true_ns());
        met.map_err(|why| format!("m{place}: {why}"))
    }

    /// Cuts the power of those who are to lose it in a new term.
    fn cut_at_term(&mut self, place: usize, shown: Shown) {
        let is_due = |(of, term, _): &(usize, u64, u64)| *of == place && shown.term > *term;
        if let Some(at) = self.at_term.iter().position(is_due) {
            let (_, _, lasts) = self.at_term.swap_remove(at);
            self.crash(place, lasts);
        }
    }

    fn begin(&mut self, fault: &Fault) {
        let Fault {
            place,
            other,
            lasts,
            ..
        } = *fault;
        let members = self.members.len();
        let now_ns = self.now_ns();
        match fault.kind {
            Kind::Crash => self.crash(place, lasts),
            Kind::Behind => self.crash(place, BEHIND_MS + lasts.min(1_500)),
            Kind::CrashAtCall(calls) => {
                let random = Random::new(self.random.next());
                self.members[place].cut_at_call(calls, random);
                self.until(lasts, End::Spare(place));
            }
            Kind::CrashAtTerm => {
                let term = self.members[place].shown().map_or(0, |shown| shown.term);
                self.at_term.push((place, term, lasts.min(400)));
            }
            Kind::CrashStalled => {
                self.members[place].disk_stalled_until_ns = now_ns + 10 * lasts * system::NS_A_MS;
                self.until(lasts, End::Crash(place, lasts));
            }
            Kind::CrashAll => (0..members).for_each(|place| self.crash(place, lasts)),
            Kind::CrashAtName(calls) => {
                let random = Random::new(self.random.next());
                self.members[place].cut_after_name(calls, random);
                self.until(5 * lasts, End::Spare(place));
            }
            Kind::Refuse(refused, calls, errno) => {
                self.members[place].refuse(refused, calls, errno);
                self.until(lasts, End::Spare(place));
            }
            Kind::NoFiles => {
                self.members[place].refuse_files();
                self.until(lasts, End::Spare(place));
            }
            Kind::Full(free_bytes, again) => {
                self.fill(place, free_bytes, FULL_TIMES * lasts);
                if again {
                    self.until(REFILLED_MS, End::Refill(place, free_bytes));
                }
            }
            Kind::FullAll(free_bytes) => {
                (0..members).for_each(|place| self.fill(place, free_bytes, FULL_TIMES * lasts));
            }
            Kind::Spoil(what @ (Spoilt::LogOlder | Spoilt::StoreOlder)) => {
                self.members[place].keep_older();
                self.until(2 * lasts, End::Spoil(place, what, lasts));
            }
            Kind::Spoil(what) => self.spoil(place, what, lasts),
            Kind::Conflict => self.conflict(self.leader().unwrap_or(place), lasts),
            Kind::HandOver(after) => {
                let leader = self.leader().unwrap_or(place);
                let other = (leader + 1) % members;
                self.members[leader].move_leader(other);
                self.until(after, End::Isolate(leader, 800 + lasts));
            }
            Kind::CutOneWay => self.cut(place, other, lasts),
            Kind::Deafen => {
                let others = (0..members).filter(|other| *other != place);
                others.for_each(|other| self.cut(other, place, lasts));
            }
            Kind::Mute => {
                let others = (0..members).filter(|other| *other != place);
                others.for_each(|other| self.cut(place, other, lasts));
            }
            Kind::Isolate => self.isolate(place, lasts),
            Kind::Bridge => {
                self.cut(place, other, lasts);
                self.cut(other, place, lasts);
            }
            Kind::Ring => {
                for from in 0..members {
                    let next = (from + 1) % members;
                    let others = (0..members).filter(|to| *to != from && *to != next);
                    others.for_each(|to| self.cut(from, to, lasts));
                }
            }
            Kind::Pause => {
                self.members[place].paused_until_ns = now_ns + 2 * lasts * system::NS_A_MS
            }
            Kind::Stall => {
                self.members[place].disk_stalled_until_ns = now_ns + 2 * lasts * system::NS_A_MS
            }
            Kind::StallAll => {
                for member in &mut self.members {
                    member.disk_stalled_until_ns = now_ns + lasts * system::NS_A_MS;
                }
            }
            Kind::StallStore => {
                self.members[place].store_stalled_until_ns = now_ns + 2 * lasts * system::NS_A_MS;
            }
            Kind::StallApplying => {
                self.members[place].applying_stalled_until_ns =
                    now_ns + 2 * lasts * system::NS_A_MS;
            }
            Kind::SlowLog(ms) => {
                self.members[place].slow_log(ms, now_ns + 2 * lasts * system::NS_A_MS)
            }
            Kind::FailFlush => self.members[place].fail_flush(),
            Kind::Reset => self.net.reset(place, other),
            Kind::Slow(most) => {
                self.net.delay(most);
                self.until(lasts, End::Quicken);
            }
            Kind::Jump(seconds) => self.members[place].jump(seconds),
            Kind::Drift(millionths) => self.members[place].drift(millionths),
            Kind::MoveLeader => self.members[place].move_leader(other),
        }
    }

    /// Who leads, as far as members show it.
    fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| Some((member.shown()?.leads?, member.place));
        let leading = self.members.iter().filter_map(leads).max();
        leading.map(|(_, place)| place)
    }

    fn isolate(&mut self, place: usize, lasts: u64) {
        for other in (0..self.members.len()).filter(|other| *other != place) {
            self.cut(place, other, lasts);
            self.cut(other, place, lasts);
        }
    }

    /// See [`Kind::Conflict`].
    fn conflict(&mut self, leader: usize, lasts: u64) {
        let alone = 900 + lasts.min(600);
        let stalled = 50 + lasts.min(400);
        self.isolate(leader, alone);
        self.until(alone, End::Stall(leader, stalled));
        // Whoever leads then needs this one, if it can.
        let other = (leader + 1 + self.random.index(self.members.len())) % self.members.len();
        if other != leader {
            self.until(alone, End::Isolate(other, stalled));
        }
        self.until(alone + stalled, End::Crash(leader, lasts));
    }

    fn spoil(&mut self, place: usize, what: Spoilt, lasts: u64) {
        if !self.members[place].is_serving() {
            return;
        }
        if what == Spoilt::LogOlder {
            self.members[place].flush();
        }
        let other = (place + 1) % self.members.len();
        let is_foreign = matches!(
            what,
            Spoilt::LogForeign | Spoilt::StoreForeign | Spoilt::IdentityForeign
        );
        if is_foreign && other == place {
            return;
        }
        let other = self.members[other].dir();
        self.crash(place, lasts);
        let mut random = Random::new(self.random.next());
        self.members[place].spoil(what, &other, &mut random);
    }

    fn fill(&mut self, place: usize, free_bytes: u64, lasts: u64) {
        self.members[place].fill_disk(free_bytes);
        self.until(lasts, End::Empty(place));
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
                End::Start(place) if self.members[place].is_gone => {}
                End::Start(place) => self.members[place].start(&self.net),
                End::Crash(place, lasts) => {
                    self.crash(place, lasts);
                    self.members[place].disk_stalled_until_ns = 0;
                }
                End::Mend(from, to) => self.net.cut(from, to, false),
                End::Quicken => self.net.delay(1),
                End::Spare(place) => self.members[place].spare(),
                End::Empty(place) => self.members[place].empty_disk(),
                End::Refill(place, _) if !self.members[place].is_filled() => {}
                End::Refill(place, free_bytes) => {
                    self.members[place].fill_disk(free_bytes);
                    self.until(REFILLED_MS, End::Refill(place, free_bytes));
                }
                End::Spoil(place, what, lasts) => self.spoil(place, what, lasts),
                End::Stall(place, lasts) => {
                    self.members[place].disk_stalled_until_ns =
                        self.now_ns() + lasts * system::NS_A_MS;
                }
                End::Isolate(place, lasts) => self.isolate(place, lasts),
            }
        }
    }

    /// Everybody is up, has applied the same, serves a leader; nobody waits; watchers have it all; what
    /// hung on leases is gone with them.
    ///
    /// # Errors
    /// What is not so.
    fn is_healed(&self) -> Result<(), &'static str> {
        let shown: Vec<_> = self.members.iter().filter_map(Member::shown).collect();
        let ensure = |holds: bool, why| if holds { Ok(()) } else { Err(why) };
        ensure(self.now_ms > self.plan.until_ms + 1_000, "it is early")?;
        let living = self.members.iter().filter(|member| !member.is_gone);
        ensure(shown.len() == living.count(), "somebody does not serve")?;
        let leads = shown.iter().any(|shown| shown.leads.is_some());
        ensure(leads, "nobody leads")?;
        ensure(self.clients.is_idle(), "a call has no answer")?;
        let is_done = self.admin.as_ref().is_none_or(Admin::is_idle);
        ensure(is_done, "a change of the members does not end")?;
        let is_even = shown
            .windows(2)
            .all(|pair| pair[0].applied == pair[1].applied);
        ensure(is_even, "not everybody has applied everything")?;
        let has_all = self.clients.have_all(&self.members, shown[0].revision);
        ensure(has_all, "a watcher does not have everything")?;
        ensure(!self.alarm.is_raised(), "NOSPACE is raised")?;
        ensure(shown[0].leases == 0, "a lease lives on")
    }

    /// What must hold in the end.
    fn judge(&mut self) -> Result<(), String> {
        for (place, member) in self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| !member.is_gone)
        {
            let held = member.held(0).expect("it serves");
            let met = self.truth.meet(&held, system::true_ns());
            met.map_err(|why| format!("in the end m{place}: {why}"))?;
        }
        let calls = &self.clients.calls;
        if let Some(path) = std::env::var_os("ENGRAM_SIM_CALLS") {
            let lines: Vec<String> = calls.iter().map(|call| format!("{call:?}")).collect();
            std::fs::write(path, lines.join("\n")).expect("it can be written");
        }
        history::judge(calls, &self.truth)?;
        self.alarm.judge(calls, &self.truth)?;
        let compacted = self.clients.compacted;
        for (place, watched) in self.clients.watched.iter().enumerate() {
            let judged = watched.borrow().judge(2, &self.truth, compacted);
            judged.map_err(|why| format!("the watcher at m{place}: {why}"))?;
        }
        for visitor in &self.clients.visitors {
            let judged = visitor
                .watched
                .borrow()
                .judge(visitor.began, &self.truth, compacted);
            judged.map_err(|why| {
                format!(
                    "a watcher at m{} from {} on: {why}",
                    visitor.place, visitor.began
                )
            })?;
        }
        self.report.calls = calls.len();
        let answered = |call: &&history::Call| call.told != Told::Unknown;
        self.report.answered = calls.iter().filter(answered).count();
        self.report.revision = self.truth.last();
        self.report.compacted = compacted;
        self.report.alarms = self.alarm.count();
        self.report.unserved_ms = self.service.longest_ms();
        self.report.entries = self.applied;
        let purged = self.members.iter().filter_map(Member::purged);
        self.report.purged = purged.max().unwrap_or(0);
        self.report.trace = crc32c::crc32c(format!("{calls:?}").as_bytes());
        Ok(())
    }
}
