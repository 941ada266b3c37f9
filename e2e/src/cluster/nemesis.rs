//! Random faults, one after the other, each ended before the next begins.

use std::time::Duration;

use super::Cluster;
use super::faults::LATE;
use crate::proxy::Link;
use crate::random::Random;

/// What befalls a cluster.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Terminate,
    Pause,
    Isolate,
    Deafen,
    Silence,
    Slow,
    Cut,
    Refuse,
}

const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::Terminate,
    Fault::Pause,
    Fault::Isolate,
    Fault::Deafen,
    Fault::Silence,
    Fault::Slow,
    Fault::Cut,
    Fault::Refuse,
];
/// The shortest and the longest that a fault stays. Milliseconds.
const STAY_MS: (u64, u64) = (100, 4_000);

impl Cluster {
    /// Has a random fault befall a random member, half of the time the leader, ends it after a
    /// random time, and returns what it was, in words.
    ///
    /// # Panics
    /// If a member does not come back.
    pub fn suffer(&mut self, random: &mut Random) -> String {
        let fault = FAULTS[random.place(FAULTS.len())];
        let victim = self.choose_victim(random);
        let stay = Duration::from_millis(STAY_MS.0 + random.below(STAY_MS.1 - STAY_MS.0));
        self.begin(fault, victim);
        std::thread::sleep(stay);
        self.end(fault, victim);
        format!("{fault:?} {} for {stay:?}", self.server(victim).name())
    }

    fn choose_victim(&self, random: &mut Random) -> usize {
        let awake = self.awake();
        let leader = self.leader_among(&awake).map(|leader| leader.place);
        match leader {
            Some(leader) if random.percent(50) => leader,
            _ => awake[random.place(awake.len())],
        }
    }

    fn begin(&mut self, fault: Fault, victim: usize) {
        let rest: Vec<usize> = (0..self.size()).filter(|place| *place != victim).collect();
        match fault {
            Fault::Kill => self.kill(victim),
            Fault::Terminate => drop(self.terminate(victim)),
            Fault::Pause => self.pause(victim),
            Fault::Isolate => self.split(&[&[victim], &rest]),
            Fault::Deafen => self.silence(&rest, &[victim]),
            Fault::Silence => self.silence(&[victim], &rest),
            Fault::Slow => self.set_links(victim, LATE),
            Fault::Cut => rest
                .iter()
                .for_each(|other| self.network().cut(victim, *other)),
            Fault::Refuse => self.set_links(victim, Link::Reject),
        }
    }

    fn end(&mut self, fault: Fault, victim: usize) {
        match fault {
            Fault::Kill | Fault::Terminate => self.restart(victim),
            Fault::Pause => self.resume(victim),
            _ => self.heal(),
        }
    }
}
