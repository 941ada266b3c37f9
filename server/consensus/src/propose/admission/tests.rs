//! A queue and a disk, played: who is refused, and how long the others wait.

use std::collections::VecDeque;

use super::*;

const TICK: Duration = Duration::from_millis(1);
/// Of every request here, so that a batch is 64 of them.
const BYTES: usize = BATCH_BYTES_MAX / 64;
/// What a full batch takes where nothing is said: 1,600 requests a second.
const BATCH_TIME: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug)]
struct Served {
    came: Moment,
    waited: Duration,
}

/// A member whose batches take as long as they are large, and what came of those who asked.
#[derive(Default)]
struct Played {
    admission: Admission,
    now: Moment,
    waiting: VecDeque<Moment>,
    /// Those of the batch under way, and when it comes back.
    going: Option<(Vec<Moment>, Moment)>,
    /// Requests owed by a rate, in parts of one.
    owed: f64,
    served: Vec<Served>,
    refused: Vec<Moment>,
    turns: Vec<(Moment, Turn)>,
}

impl Played {
    fn backlog(&self) -> Backlog {
        Backlog {
            requests: self.waiting.len(),
            bytes: self.waiting.len() * BYTES,
        }
    }

    fn comes(&mut self) {
        let ahead = self.backlog();
        match self.admission.admits(Class::Data, ahead) {
            true => self.waiting.push_back(self.now),
            false => self.refused.push(self.now),
        }
    }

    fn burst(&mut self, count: usize) {
        (0..count).for_each(|_| self.comes());
    }

    /// For so long, `rate` come a second, and a full batch takes `time`.
    fn run(&mut self, lasting: Duration, rate: f64, time: Duration) {
        let end = self.now + lasting;
        while self.now < end {
            self.owed += rate * TICK.as_secs_f64();
            while self.owed >= 1.0 {
                self.owed -= 1.0;
                self.comes();
            }
            self.turn(time);
            self.now += TICK;
            let calm = self.admission.look_for_calm(self.now);
            self.turns.extend(calm.map(|turn| (self.now, turn)));
        }
    }

    fn turn(&mut self, time: Duration) {
        let is_back = |(_, back): &mut (Vec<Moment>, Moment)| *back <= self.now;
        if let Some((batch, _)) = self.going.take_if(is_back) {
            self.admission.done(self.now);
            let waited = batch.into_iter().map(|came| Served {
                came,
                waited: self.now - came,
            });
            self.served.extend(waited);
        }
        if self.going.is_none() && !self.waiting.is_empty() {
            let count = self.waiting.len().min(BATCH_BYTES_MAX / BYTES);
            let batch: Vec<Moment> = self.waiting.drain(..count).collect();
            let going = Backlog {
                requests: count,
                bytes: count * BYTES,
            };
            let turn = self.admission.taken(self.now, going, self.backlog());
            self.turns.extend(turn.map(|turn| (self.now, turn)));
            let took = time.mul_f64(going.batches().max(0.1));
            self.going = Some((batch, self.now + took));
        }
    }

    /// The batch under way takes so much longer.
    fn stall(&mut self, lasting: Duration) {
        let (_, back) = self.going.as_mut().expect("one is under way");
        *back += lasting;
    }

    /// What those who came in between and were admitted waited at most.
    fn longest(&self, from: Duration, to: Duration) -> Duration {
        let came = |served: &&Served| served.came >= from && served.came < to;
        let waited = self.served.iter().filter(came).map(|served| served.waited);
        waited.max().expect("somebody was admitted")
    }

    fn is_clean(&self) -> bool {
        self.refused.is_empty() && self.turns.is_empty()
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn nobody_is_refused_while_the_member_keeps_up_nor_in_a_burst() {
    let mut played = Played::default();
    played.run(seconds(20), 1_400.0, BATCH_TIME);
    for _ in 0..20 {
        played.burst(1_000);
        played.run(seconds(1), 500.0, BATCH_TIME);
    }
    // Three seconds and a half of work, at once.
    played.burst(5_600);
    played.run(seconds(10), 500.0, BATCH_TIME);
    assert!(played.is_clean(), "{:?}", played.turns);
    assert!(played.waiting.len() < 64, "the burst is worked off");
}

#[test]
fn nobody_is_refused_because_the_disk_stood_still_for_seconds() {
    // A half and seven tenths of what can be done.
    for rate in [800.0, 1_120.0] {
        let mut played = Played::default();
        for stall in [1, 3, 5] {
            played.run(seconds(20), rate, BATCH_TIME);
            played.stall(seconds(stall));
        }
        played.run(seconds(20), rate, BATCH_TIME);
        assert!(played.is_clean(), "{rate}: {:?}", played.turns);
    }
}

#[test]
fn nobody_is_refused_by_a_disk_on_which_every_sync_is_slow() {
    let mut played = Played::default();
    // 64 a batch of 900 ms; 60 come meanwhile.
    played.run(seconds(60), 66.0, Duration::from_millis(900));
    assert!(played.is_clean(), "{:?}", played.turns);
}

#[test]
fn of_three_times_too_much_the_rest_is_served_in_time() {
    let mut played = Played::default();
    let (rate, from) = (1_100.0, seconds(10));
    played.run(from, rate, BATCH_TIME);
    played.run(seconds(30), 3.0 * rate, BATCH_TIME);
    let (began, turn) = played.turns[0];
    assert!(matches!(turn, Turn::Begins(_)), "{turn:?}");
    assert!(began < from + seconds(4), "it began at {began:?}");
    assert_eq!(played.turns.len(), 1, "it lasts: {:?}", played.turns);
    assert!(played.longest(from, began) <= MOST + BATCH_TIME * 2);
    // Once what had come before is worked off.
    let held = played.longest(began + seconds(5), from + seconds(29));
    assert!(held <= HELD + BATCH_TIME, "{held:?}");
    let after = played.served.iter();
    let after = after.filter(|served| served.came >= began + seconds(5));
    let rate_held = after.count() as f64 / (from + seconds(30) - began - seconds(5)).as_secs_f64();
    assert!(rate_held > 1_500.0, "{rate_held} a second of 1,600");

    // It is over once the load is, and forgotten.
    let refused = played.refused.len();
    played.run(seconds(2), rate, BATCH_TIME);
    let (_, over) = played.turns[1];
    assert_eq!(over, Turn::Over(played.admission.refused()));
    assert!(!played.admission.is_overloaded());
    played.burst(1_000);
    played.run(seconds(10), rate, BATCH_TIME);
    assert_eq!(played.refused.len(), refused, "{:?}", played.turns);
    assert_eq!(played.admission.refused(), refused as u64);
}

#[test]
fn however_much_comes_nobody_waits_longer_than_said() {
    let mut played = Played::default();
    played.run(seconds(5), 50_000.0, BATCH_TIME);
    let longest = played.longest(seconds(0), seconds(5));
    // Of the first three batches' time nothing is known.
    let unknown = Duration::from_secs_f64(0.16 * 50_000.0 / 1_600.0);
    assert!(longest <= MOST.max(unknown), "{longest:?}");
    assert!(!played.refused.is_empty());
}

#[test]
fn however_slow_the_disk_what_goes_with_the_next_batch_is_admitted() {
    let mut played = Played::default();
    let slow = Duration::from_millis(500);
    played.run(seconds(30), 1_600.0, slow);
    assert!(played.admission.is_overloaded());
    // Once what came before anything was known is worked off.
    let longest = played.longest(seconds(20), seconds(28));
    assert!(longest <= slow * 3, "{longest:?}");
    let after = played.served.iter();
    let after = after.filter(|served| served.came >= seconds(20)).count();
    assert!(after > 1_000, "{after} of 128 a second");
}

#[test]
fn overload_ends_by_itself_though_bursts_go_on_that_can_be_worked_off() {
    let mut played = Played::default();
    played.run(seconds(10), 4_000.0, BATCH_TIME);
    assert!(played.admission.is_overloaded());
    // More at once than waits for as long as overload lets one wait, every half a second.
    for _ in 0..80 {
        played.burst(500);
        played.run(Duration::from_millis(500), 100.0, BATCH_TIME);
    }
    assert!(!played.admission.is_overloaded(), "{:?}", played.turns);
    let refused = played.refused.len();
    for _ in 0..10 {
        played.burst(500);
        played.run(Duration::from_millis(500), 100.0, BATCH_TIME);
    }
    assert_eq!(played.refused.len(), refused, "{:?}", played.turns);
}

#[test]
fn leases_and_what_administers_are_admitted_where_data_is_not() {
    let mut played = Played::default();
    played.run(seconds(10), 4_000.0, BATCH_TIME);
    let admission = &mut played.admission;
    let of_batches = |batches: usize| Backlog {
        requests: batches * 64,
        bytes: batches * BATCH_BYTES_MAX,
    };
    // Ten batches take 0.4 s, 200 eight seconds.
    let admitted = |admission: &mut Admission, batches| {
        [Class::Data, Class::Lease, Class::Duty]
            .map(|class| admission.admits(class, of_batches(batches)))
    };
    assert_eq!(admitted(admission, 0), [true, true, true]);
    assert_eq!(admitted(admission, 10), [false, true, true]);
    assert_eq!(admitted(admission, 200), [false, false, true]);
}

#[test]
fn requests_larger_than_a_batch_are_reckoned_by_their_bytes() {
    let mut admission = Admission::default();
    let large = |requests: usize| Backlog {
        requests,
        bytes: requests * 90 * BATCH_BYTES_MAX,
    };
    let mut now = seconds(0);
    // 90 MiB in 0.9 s, one after the other, while two wait: less than two seconds.
    for _ in 0..20 {
        assert!(admission.admits(Class::Data, large(1)));
        assert_eq!(admission.taken(now, large(1), large(1)), None);
        now += Duration::from_millis(900);
        admission.done(now);
    }
    let wait = admission.wait(large(1)).expect("it is known");
    assert!(
        wait > Duration::from_millis(900) && wait < seconds(1),
        "{wait:?}"
    );
}
