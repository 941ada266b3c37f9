//! Many faults at once: each begins and ends when the seed says, whatever else is wrong meanwhile, and
//! at the end everything is well again.

mod alarms;
mod disks;
mod replacement;

pub use disks::Disks;

use std::time::{Duration, Instant};

use tonic::Status;

use super::faults::LATE;
use super::{Cluster, LEADER_LIMIT};
use crate::proxy::Link;
use crate::random::Random;
use crate::server::STOP_LIMIT;
use alarms::Attendant;
use replacement::Replacement;

/// What befalls a member, or what others send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; it starts again when the fault ends.
    Kill,
    /// SIGTERM; the same.
    Terminate,
    /// SIGSTOP.
    Pause,
    /// No bytes pass to it or from it.
    Isolate,
    /// None to it.
    Deafen,
    /// None from it.
    Silence,
    /// None from it to one other.
    Part,
    /// Bytes to it and from it are late.
    Delay,
    /// Its connections end, once.
    Cut,
    /// Nobody can connect with it.
    Refuse,
    /// Its syncs are slow.
    SlowDisk,
    /// Its disk is full; only of the member that has a small one.
    FullDisk,
    /// Its data is gone: it is removed, added as a learner, and promoted. Lasts as long as that takes.
    Replace,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Fault] = &[
        Fault::Kill,
        Fault::Terminate,
        Fault::Pause,
        Fault::Isolate,
        Fault::Deafen,
        Fault::Silence,
        Fault::Part,
        Fault::Delay,
        Fault::Cut,
        Fault::Refuse,
        Fault::SlowDisk,
        Fault::FullDisk,
        Fault::Replace,
    ];

    /// Whether the member's process is where it strikes: two of these never strike one member at once.
    fn is_of_process(self) -> bool {
        use Fault::{Kill, Pause, Replace, Terminate};
        matches!(self, Kill | Terminate | Pause | Replace)
    }
}

/// How many faults last at once at most.
const AT_ONCE: usize = 3;
/// The shortest and the longest that a fault lasts. Milliseconds.
const LASTS_MS: (u64, u64) = (100, 10_000);
/// The same of one in two: most things in life are short.
const SHORT_MS: (u64, u64) = (100, 1_500);
/// Between the beginnings of two faults. Milliseconds.
const PAUSE_MS: (u64, u64) = (100, 1_500);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// For one question to a member.
const ASK_LIMIT: Duration = Duration::from_millis(1_500);
/// How long it may take until all is well again once the last fault has ended.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// A fault that lasts.
struct Active {
    fault: Fault,
    victim: usize,
    /// Whom a [`Fault::Part`] parts it from.
    other: usize,
    ends: Instant,
}

/// Faults under way.
struct Storm<'a> {
    random: &'a mut Random,
    faults: &'a [Fault],
    disks: &'a Disks,
    active: Vec<Active>,
    replacement: Option<Replacement>,
    /// There while a full disk may have left an alarm.
    attendant: Option<Attendant>,
    began: Instant,
    told: Vec<String>,
}

impl Cluster {
    /// Has `faults` befall the members for `length`, and then waits until all is well; returns what
    /// happened, in words.
    ///
    /// # Panics
    /// If a member ends by itself while its disk has room, or all is not well in time.
    pub fn weather(
        &mut self,
        random: &mut Random,
        faults: &[Fault],
        disks: &Disks,
        length: Duration,
    ) -> Vec<String> {
        let mut storm = Storm {
            random,
            faults,
            disks,
            active: Vec::new(),
            replacement: None,
            attendant: None,
            began: Instant::now(),
            told: Vec::new(),
        };
        storm.rage(self, length);
        storm.calm(self);
        storm.told
    }
}

impl Storm<'_> {
    fn rage(&mut self, cluster: &mut Cluster, length: Duration) {
        let mut next = self.began;
        while self.began.elapsed() < length {
            self.end_due(cluster, Some(Instant::now()));
            if Instant::now() >= next {
                self.begin_one(cluster);
                next = Instant::now() + self.between(PAUSE_MS);
            }
            self.replace_on(cluster);
            self.attend(cluster);
            self.must_run(cluster);
            std::thread::sleep(TICK);
        }
    }

    /// Ends everything and waits until every member serves.
    fn calm(&mut self, cluster: &mut Cluster) {
        while !self.active.is_empty() {
            self.end_due(cluster, None);
            std::thread::sleep(TICK);
        }
        let deadline = Instant::now() + SETTLE_LIMIT;
        while self.replacement.is_some() {
            self.replace_on(cluster);
            cluster.must(Instant::now() < deadline, || {
                format!("a member is not replaced {SETTLE_LIMIT:?} after the last fault")
            });
            std::thread::sleep(TICK);
        }
        for place in 0..cluster.size() {
            // It may have ended while its disk was full.
            if !cluster.is_running(place) {
                cluster.relaunch(place);
            }
            cluster.must_become_ready(place);
        }
        cluster.wait_for_leader(LEADER_LIMIT);
        // The last alarm may still have been under way.
        self.attendant = self.disks.small().map(|_| Attendant::default());
        while self.attendant.is_some() {
            self.attend(cluster);
            cluster.must(Instant::now() < deadline, || {
                format!("an alarm stands {SETTLE_LIMIT:?} after the last fault")
            });
            std::thread::sleep(TICK);
        }
    }

    fn between(&mut self, (from, to): (u64, u64)) -> Duration {
        Duration::from_millis(from + self.random.below(to - from))
    }

    fn say(&mut self, cluster: &Cluster, victim: usize, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        let line = format!("{at:.1} s: {what} {}", cluster.server(victim).name());
        println!("  {line}");
        self.told.push(line);
    }

    fn begin_one(&mut self, cluster: &mut Cluster) {
        // Everything is drawn whether it is used or not, so that the seed decides as much as it can.
        let number = self.random.place(self.faults.len());
        let fault = self.faults[number];
        let victim = self.draw_victim(cluster);
        let other = (victim + 1 + self.random.place(cluster.size() - 1)) % cluster.size();
        let lasts = match self.random.percent(50) {
            true => self.between(SHORT_MS),
            false => self.between(LASTS_MS),
        };
        let victim = match (fault, self.disks.small()) {
            (Fault::FullDisk, Some(small)) => small,
            (Fault::FullDisk, None) => return,
            _ => victim,
        };
        if self.active.len() < AT_ONCE && self.can_strike(cluster, fault, victim) {
            self.begin(cluster, fault, victim, other, lasts);
        }
    }

    /// Half of the time the leader.
    fn draw_victim(&mut self, cluster: &Cluster) -> usize {
        let (wanted, any) = (self.random.percent(50), self.random.place(cluster.size()));
        let awake = cluster.awake();
        if !wanted || awake.is_empty() {
            return any;
        }
        let leader = cluster.leader_among(&awake);
        leader.map_or(any, |leader| leader.place)
    }

    fn can_strike(&self, cluster: &mut Cluster, fault: Fault, victim: usize) -> bool {
        if self.is_active(fault, victim) {
            return false;
        }
        if !fault.is_of_process() {
            return true;
        }
        let is_only = fault != Fault::Replace || self.replacement.is_none();
        !self.is_struck(victim) && is_only && cluster.is_running(victim)
    }

    fn is_active(&self, fault: Fault, victim: usize) -> bool {
        let is_such = |active: &Active| (active.fault, active.victim) == (fault, victim);
        self.active.iter().any(is_such)
    }

    fn begin(
        &mut self,
        cluster: &mut Cluster,
        fault: Fault,
        victim: usize,
        other: usize,
        lasts: Duration,
    ) {
        let rest: Vec<usize> = (0..cluster.size())
            .filter(|place| *place != victim)
            .collect();
        match fault {
            Fault::Kill => cluster.kill(victim),
            Fault::Terminate => cluster.server(victim).signal(libc::SIGTERM),
            Fault::Pause => cluster.pause(victim),
            Fault::Isolate => cluster.set_links(victim, Link::Hold),
            Fault::Deafen => cluster.silence(&rest, &[victim]),
            Fault::Silence => cluster.silence(&[victim], &rest),
            Fault::Part => cluster.silence(&[victim], &[other]),
            Fault::Delay => cluster.set_links(victim, LATE),
            Fault::Refuse => cluster.set_links(victim, Link::Reject),
            Fault::Cut => {
                for other in rest {
                    cluster.network().cut(victim, other);
                }
            }
            Fault::SlowDisk => self.disks.slow_down(victim),
            Fault::FullDisk => self.disks.fill(),
            Fault::Replace => match Replacement::begin(cluster, victim) {
                Some(replacement) => self.replacement = Some(replacement),
                // Whoever does not say who it is is replaced another time.
                None => return,
            },
        }
        let has_own_end = matches!(fault, Fault::Cut | Fault::Replace);
        if has_own_end {
            self.say(cluster, victim, &format!("{fault:?}"));
            return;
        }
        self.say(
            cluster,
            victim,
            &format!("{fault:?} ({:.1} s)", lasts.as_secs_f64()),
        );
        let ends = Instant::now() + lasts;
        self.active.push(Active {
            fault,
            victim,
            other,
            ends,
        });
    }

    /// Ends what is due at `now`; everything if it is `None`.
    fn end_due(&mut self, cluster: &mut Cluster, now: Option<Instant>) {
        let mut place = 0;
        while let Some(one) = self.active.get(place) {
            let is_due = now.is_none_or(|now| one.ends <= now);
            if is_due && self.can_end(cluster, one) {
                let one = self.active.remove(place);
                self.end(cluster, &one);
            } else {
                place += 1;
            }
        }
    }

    /// A member that was asked to stop is started again once it has: it may take its time.
    fn can_end(&self, cluster: &mut Cluster, active: &Active) -> bool {
        if active.fault != Fault::Terminate || !cluster.is_running(active.victim) {
            return true;
        }
        cluster.must(active.ends.elapsed() < STOP_LIMIT, || {
            format!("SIGTERM did not end a member for {STOP_LIMIT:?}")
        });
        false
    }

    /// Links that two faults share pass as soon as one of them ends.
    fn end(&mut self, cluster: &mut Cluster, active: &Active) {
        let victim = active.victim;
        match active.fault {
            Fault::Kill | Fault::Terminate => cluster.relaunch(victim),
            // With a full disk it may have ended as soon as it was awake.
            Fault::Pause if cluster.server(victim).has_process() => cluster.resume(victim),
            Fault::Part => cluster.network().set(victim, active.other, Link::Pass),
            Fault::Isolate | Fault::Deafen | Fault::Silence | Fault::Delay | Fault::Refuse => {
                cluster.set_links(victim, Link::Pass);
            }
            Fault::SlowDisk => self.disks.speed_up(victim),
            Fault::FullDisk => {
                self.disks.empty();
                self.attendant = Some(Attendant::default());
                if !self.is_struck(victim) && !cluster.is_running(victim) {
                    self.say(cluster, victim, "starts again with room:");
                    cluster.relaunch(victim);
                }
            }
            Fault::Pause | Fault::Cut | Fault::Replace => {}
        }
    }

    /// Whether a fault of its process lasts, or it is being replaced.
    fn is_struck(&self, place: usize) -> bool {
        let is_such = |active: &Active| active.victim == place && active.fault.is_of_process();
        let replaced = |replacement: &Replacement| replacement.place() == place;
        self.active.iter().any(is_such) || self.replacement.as_ref().is_some_and(replaced)
    }

    fn replace_on(&mut self, cluster: &mut Cluster) {
        let Some(replacement) = &mut self.replacement else {
            return;
        };
        let place = replacement.place();
        if replacement.step(cluster) {
            self.replacement = None;
            self.say(cluster, place, "replaced:");
        }
    }

    /// Clears alarms, as people do, once there is room.
    fn attend(&mut self, cluster: &Cluster) {
        let is_full = |active: &Active| active.fault == Fault::FullDisk;
        if self.active.iter().any(is_full) {
            return;
        }
        if self
            .attendant
            .as_mut()
            .is_some_and(|attendant| attendant.look(cluster))
        {
            self.attendant = None;
        }
    }

    /// Nobody ends by itself but a member whose disk is full.
    fn must_run(&self, cluster: &mut Cluster) {
        for place in 0..cluster.size() {
            let may_be_gone = self.is_struck(place) || self.is_active(Fault::FullDisk, place);
            if may_be_gone || cluster.is_running(place) {
                continue;
            }
            let server = cluster.server(place);
            cluster.fail(&format!(
                "{} ended by itself: {}",
                server.name(),
                server.last_words()
            ));
        }
    }
}

/// The answer, if there is one in time.
fn ask<T>(
    cluster: &Cluster,
    question: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Option<T> {
    let limited = async { tokio::time::timeout(ASK_LIMIT, question).await };
    let answer = cluster.runtime().block_on(limited).ok()?.ok()?;
    Some(answer.into_inner())
}
