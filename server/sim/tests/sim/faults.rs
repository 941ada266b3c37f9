//! What happens to a cluster, drawn from the seed. Each fault has numbers of its own, so that one can be
//! left out and the others stay what they were.

use crate::formats::Carrier;
use crate::random::Random;

/// What a member's disk can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A write.
    Write,
    /// A sync.
    Sync,
    /// Making a name durable.
    Name,
}

/// What has become of a member's directory while it was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoilt {
    /// A bit of a file is another.
    Bit,
    /// Its log is gone.
    LogLost,
    /// Its store is gone.
    StoreLost,
    /// Its log is another member's.
    LogForeign,
    /// Its log is what it was a while ago.
    LogOlder,
    /// Its store is what it was a while ago.
    StoreOlder,
    /// Its store is another member's.
    StoreForeign,
    /// Its identity is another member's.
    IdentityForeign,
    /// What it left is of a format that only another build knows.
    Format(Carrier, u8),
}

/// A fault. Times in virtual milliseconds.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The power of a member is cut between two turns.
    Crash,
    /// It is cut in the midst of what its log does: at the call of that number from now on.
    CrashAtCall(u64),
    /// It is cut as soon as a file of the log has got its name, or a call later.
    CrashAtName(u64),
    /// It is cut as soon as the member is in another term.
    CrashAtTerm,
    /// Its log's disk stands still, and then its power is cut.
    CrashStalled,
    /// A member is down for longer than the others keep their logs.
    Behind,
    /// The power of all members is cut.
    CrashAll,
    /// The log's disk refuses a call by an error of that number, the process ends.
    Refuse(Refused, u64, i32),
    /// The disk is full but for so many bytes; what the member gives up may be taken as well.
    Full(u64, bool),
    /// The same of everybody's.
    FullAll(u64),
    /// The disk has no room for new files.
    NoFiles,
    /// A member's directory is not what it left.
    Spoil(Spoilt),
    /// A leader goes on alone for a while; what takes the place of its entries then waits for its disk, until
    /// its power is cut.
    Conflict,
    /// A leader hands leadership over, and soon reaches nobody.
    HandOver(u64),
    /// Nothing that a member sends to another arrives.
    CutOneWay,
    /// Nothing that is sent to a member arrives.
    Deafen,
    /// Nothing that a member sends arrives.
    Mute,
    /// A member is cut off.
    Isolate,
    /// Two members do not reach each other, whom all others reach.
    Bridge,
    /// Each member is heard by the next one alone.
    Ring,
    /// A member is not run.
    Pause,
    /// Its log's disk stands still.
    Stall,
    /// Everybody's does.
    StallAll,
    /// Its store's disk stands still for whatever blocks on it: flushes, checkpoints, what is received.
    StallStore,
    /// Its store takes no writes: nothing is applied.
    StallApplying,
    /// Its log's disk takes that long for a write and its sync.
    SlowLog(u64),
    /// A flush of its store that nobody asked for fails.
    FailFlush,
    /// Connections between two members are reset.
    Reset,
    /// Messages take up to that long.
    Slow(u64),
    /// A wall clock jumps by so many seconds.
    Jump(i64),
    /// A clock runs fast or slow by so many millionths.
    Drift(i64),
    /// Leadership is handed over.
    MoveLeader,
}

impl Kind {
    /// Whether it happens to one member alone.
    fn is_of_one(&self) -> bool {
        !matches!(
            self,
            Kind::CrashAll
                | Kind::FullAll(_)
                | Kind::StallAll
                | Kind::Conflict
                | Kind::HandOver(_)
                | Kind::MoveLeader
                | Kind::Ring
                | Kind::Slow(_)
        )
    }
}

/// A fault, whom it meets, and how long it lasts.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Its number.
    pub number: u64,
    /// What.
    pub kind: Kind,
    /// Whom.
    pub place: usize,
    /// Another member.
    pub other: usize,
    /// Virtual milliseconds.
    pub lasts: u64,
}

impl Fault {
    /// Has it happen to nobody but a victim, of so many members.
    pub fn befall(&mut self, victim: usize, members: usize, seed: u64) {
        let mut random = Random::new(seed.rotate_left(41) ^ self.number);
        let of_one = match random.below(8) {
            0 => Kind::Pause,
            1 => Kind::StallStore,
            2 => Kind::StallApplying,
            3 => Kind::SlowLog(random.between(2, 200)),
            4 => Kind::Deafen,
            5 => Kind::Mute,
            6 => Kind::Stall,
            _ => Kind::Full(free(&mut random), random.once_in(2)),
        };
        if !self.kind.is_of_one() {
            self.kind = of_one;
        }
        self.place = victim;
        self.other = (victim + 1 + random.index(members - 1)) % members;
    }

    /// Has a fault in four be a pause of a second up to a minute.
    pub fn pause_long(&mut self, seed: u64) {
        let mut random = Random::new(seed.rotate_left(29) ^ self.number);
        if random.once_in(4) {
            self.kind = Kind::Pause;
            self.lasts = random.between(500, 30_000);
        }
    }
}

/// The fault of a number, in a cluster of so many members.
pub fn draw(seed: u64, number: u64, members: usize) -> Fault {
    let mut random = Random::new(seed ^ (number + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let place = random.index(members);
    let other = (place + 1 + random.index((members - 1).max(1))) % members;
    let kind = match random.below(62) {
        0..=4 => Kind::Crash,
        5..=8 => Kind::CrashAtCall(random.between(1, 60)),
        9..=10 => Kind::CrashAtTerm,
        11..=12 => Kind::CrashStalled,
        13 => Kind::CrashAll,
        14 => Kind::Refuse(Refused::Write, random.between(0, 30), libc::EIO),
        15 => Kind::Refuse(Refused::Sync, random.between(0, 30), libc::EIO),
        16..=17 => Kind::CutOneWay,
        18..=19 => Kind::Isolate,
        20 => Kind::Bridge,
        21 => Kind::Ring,
        22..=23 => Kind::Pause,
        24..=25 => Kind::Stall,
        26 => Kind::Reset,
        27..=28 => Kind::Slow(random.between(5, 120)),
        29 if random.once_in(2) => Kind::Jump(random.between(1, 7_200).cast_signed() - 3_600),
        29 => Kind::Drift(random.between(0, 20_000).cast_signed() - 10_000),
        30..=32 => Kind::Behind,
        33..=34 => Kind::MoveLeader,
        35..=36 => Kind::CrashAtName(random.below(3)),
        37 => Kind::Refuse(Refused::Write, random.between(0, 30), libc::ENOSPC),
        38 => Kind::NoFiles,
        39 => Kind::FullAll(free(&mut random)),
        40..=42 => Kind::Spoil(spoilt(&mut random)),
        43..=44 => Kind::Conflict,
        45 => Kind::HandOver(random.between(1, 30)),
        50..=51 => Kind::StallStore,
        52..=53 => Kind::StallApplying,
        54..=55 => Kind::SlowLog(random.between(2, 60)),
        56 => Kind::StallAll,
        57..=58 => Kind::FailFlush,
        60 => Kind::Deafen,
        61 => Kind::Mute,
        59 => Kind::Refuse(Refused::Name, random.between(0, 10), libc::EIO),
        _ => Kind::Full(free(&mut random), random.once_in(2)),
    };
    // As many short ones as long ones.
    let lasts = 50 << random.below(6);
    Fault {
        number,
        kind,
        place,
        other,
        lasts: random.between(lasts, 2 * lasts),
    }
}

/// Room that is left on a disk: as much as makes a member short of it, full or spent, or hardly any.
fn free(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.below(64 << 10),
        _ => random.below(14 << 20),
    }
}

fn spoilt(random: &mut Random) -> Spoilt {
    match random.below(14) {
        0..=2 => Spoilt::Bit,
        3 => Spoilt::LogLost,
        4 => Spoilt::StoreLost,
        5 => Spoilt::LogForeign,
        6 => Spoilt::LogOlder,
        7 => Spoilt::StoreOlder,
        8..=9 => Spoilt::StoreForeign,
        10 => Spoilt::IdentityForeign,
        _ => {
            let carriers = [
                Carrier::Log,
                Carrier::Store,
                Carrier::Identity,
                Carrier::Switch,
            ];
            let carrier = carriers[random.index(carriers.len())];
            // Of no build, and of one that is to come.
            let number = [0, 3][random.index(2)];
            Spoilt::Format(carrier, number)
        }
    }
}
