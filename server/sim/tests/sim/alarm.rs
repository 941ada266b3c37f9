//! The NOSPACE alarm: held against how much room members' disks have, and cleared by people once there is
//! room again, as in a real cluster.

use std::collections::BTreeMap;

use engram_server::api::backend::Backend as _;
use engram_server::store::Level;
use engram_server::types::request::{self, AlarmType, Op};

use crate::history::{Call, Told};
use crate::member::{Member, Shown};
use crate::net::Net;
use crate::system::NS_A_MS;
use crate::truth::Truth;

/// How late a leader may decide by what was: looks of members at their disks, heartbeats that are slow, and
/// its own look.
const LATE_NS: u64 = 1_500 * NS_A_MS;
/// How long a leader goes by what a member said that it does not hear any more, and what is above.
const REMEMBERED_NS: u64 = 5_000 * NS_A_MS + LATE_NS;
/// How soon the alarm is raised where nothing else is wrong.
const RAISED_WITHIN_NS: u64 = 3_000 * NS_A_MS;
/// How long people wait until they clear it, and until they look again.
const CLEARED_AFTER_NS: u64 = 500 * NS_A_MS;
const CLEARED_EVERY_NS: u64 = 1_000 * NS_A_MS;

/// What is known of a member's disk.
#[derive(Clone, Copy, Debug, Default)]
struct Disk {
    /// When it was short of room last, and was not seen to have some for a while since.
    short_ns: Option<u64>,
    /// Since when it has been seen to have room, by itself and whoever else.
    roomy_since_ns: Option<u64>,
    /// It had no room, and its member may still find that out, or say so: until the same.
    is_suspect: bool,
}

/// A time in which the alarm was raised.
#[derive(Debug)]
struct Raised {
    since_ns: u64,
    until_ns: Option<u64>,
    /// The revision at which it was seen first, and the one at which it was seen last.
    revisions: (i64, i64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Alarm {
    disks: Vec<Disk>,
    /// When disks with room were no quorum, last.
    needed_ns: Option<u64>,
    /// Since when everybody is short of room, and nothing else is wrong.
    due_since_ns: Option<u64>,
    /// Since when nobody's disk is filled.
    roomy_since_ns: Option<u64>,
    cleared_ns: u64,
    raised: Vec<Raised>,
    /// The greatest index that anybody has applied, and when logs first ended where.
    applied: u64,
    logged: BTreeMap<u64, u64>,
}

impl Alarm {
    /// How often it was raised.
    pub fn count(&self) -> usize {
        self.raised.len()
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.raised
            .last()
            .is_some_and(|raised| raised.until_ns.is_none())
    }

    /// Takes note of what a member shows.
    ///
    /// # Errors
    /// The alarm was raised, and there was no reason.
    pub fn learn(&mut self, place: usize, shown: &Shown, now_ns: u64) -> Result<(), String> {
        let logged = self.logged.last_key_value().map_or(0, |(last, _)| *last);
        if shown.last > logged {
            self.logged.insert(shown.last, now_ns);
        }
        if shown.applied <= self.applied {
            return Ok(());
        }
        let first = std::mem::replace(&mut self.applied, shown.applied) + 1;
        match (self.raised.last_mut(), shown.is_alarmed) {
            (Some(raised), true) if raised.until_ns.is_none() => {
                raised.revisions.1 = shown.revision;
            }
            (Some(raised), false) if raised.until_ns.is_none() => raised.until_ns = Some(now_ns),
            (_, true) => self.is_raised_by(place, shown.revision, first, now_ns)?,
            (_, false) => {}
        }
        Ok(())
    }

    /// It is raised, by an entry from `first` on: when that came into a log, there was no room.
    fn is_raised_by(
        &mut self,
        place: usize,
        revision: i64,
        first: u64,
        now_ns: u64,
    ) -> Result<(), String> {
        let decided = self.logged.range(first..).next();
        let decided_ns = decided.map_or(now_ns, |(_, ns)| *ns);
        self.raised.push(Raised {
            since_ns: now_ns,
            until_ns: None,
            revisions: (revision, revision),
        });
        match self.needed_ns {
            Some(needed_ns) if needed_ns + LATE_NS >= decided_ns => Ok(()),
            needed_ns => Err(format!(
                "m{place} has NOSPACE raised by entry {first} or later, and {} there was no need",
                needed_ns.map_or("at no time".to_owned(), |ns| format!(
                    "for {} ms before",
                    (decided_ns - ns) / NS_A_MS
                ))
            )),
        }
    }

    /// A turn: how the disks are, and whether the alarm is to be raised or cleared.
    ///
    /// # Errors
    /// It should be raised.
    pub fn turn(&mut self, members: &[Member], net: &Net, now_ns: u64) -> Result<(), String> {
        let living = || members.iter().filter(|member| !member.is_gone);
        let is_wrong = living().any(Member::has_no_room);
        self.roomy_since_ns = match is_wrong {
            true => None,
            false => self.roomy_since_ns.or(Some(now_ns)),
        };
        let is_open = |disk: &Disk| disk.is_suspect || disk.short_ns.is_some();
        if is_wrong || self.disks.iter().any(is_open) {
            self.look(members, net, now_ns)?;
        }
        let is_over = self
            .roomy_since_ns
            .is_some_and(|since_ns| since_ns + CLEARED_AFTER_NS <= now_ns);
        if self.is_raised() && is_over && self.cleared_ns + CLEARED_EVERY_NS <= now_ns {
            self.cleared_ns = now_ns;
            let serving = living().filter(|member| member.is_serving()).count();
            let turn = (now_ns / CLEARED_EVERY_NS) as usize % serving.max(1);
            let asked = living().filter(|member| member.is_serving()).nth(turn);
            asked.into_iter().for_each(clear);
        }
        Ok(())
    }

    fn look(&mut self, members: &[Member], net: &Net, now_ns: u64) -> Result<(), String> {
        self.disks.resize(members.len(), Disk::default());
        let mut is_due = !net.is_slow();
        for (member, disk) in members.iter().zip(&mut self.disks) {
            if member.is_gone {
                *disk = Disk::default();
                continue;
            }
            let shown = member.shown();
            let is_whole = member.works(now_ns) && net.is_whole(member.place);
            disk.is_suspect |= member.has_no_room();
            disk.see(shown, member.has_no_room(), is_whole, now_ns);
            is_due &= is_whole && shown.is_some_and(|shown| shown.level == Level::Short);
        }
        if self.leaves_no_quorum(members) {
            self.needed_ns = Some(now_ns);
        }
        let leads = |member: &Member| member.shown().is_some_and(|shown| shown.leads.is_some());
        is_due = is_due && !self.is_raised() && members.iter().any(leads);
        self.due_since_ns = match is_due {
            true => self.due_since_ns.or(Some(now_ns)),
            false => None,
        };
        match self.due_since_ns {
            Some(since_ns) if since_ns + RAISED_WITHIN_NS < now_ns => {
                Err("everybody is short of room, and NOSPACE is not raised".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the voters with room are no quorum, as any member knows them.
    fn leaves_no_quorum(&self, members: &[Member]) -> bool {
        if !self.disks.iter().any(|disk| disk.short_ns.is_some()) {
            return false;
        }
        let voters = members.iter().filter_map(Member::voters).flatten();
        voters.into_iter().any(|voters| {
            let places = voters.iter().flatten();
            let disks = places.filter_map(|place| self.disks.get(*place));
            let short = disks.filter(|disk| disk.short_ns.is_some()).count();
            voters.len() - short < voters.len() / 2 + 1
        })
    }

    /// Holds what callers were told against it: refused for want of room is only who asked while it was
    /// raised, and nothing is put meanwhile.
    ///
    /// # Errors
    /// What does not fit.
    pub fn judge(&self, calls: &[Call], truth: &Truth) -> Result<(), String> {
        for call in calls.iter().filter(|call| call.told == Told::NoSpace) {
            let is_raised = |raised: &Raised| {
                raised.since_ns <= call.ended_ns
                    && raised.until_ns.is_none_or(|until| until >= call.began_ns)
            };
            if !self.raised.iter().any(is_raised) {
                return Err(format!("NOSPACE was not raised: {call:?}"));
            }
        }
        for raised in &self.raised {
            let (first, last) = raised.revisions;
            let meanwhile = truth
                .revisions()
                .filter(|(revision, _)| (first + 1..=last).contains(revision));
            for (revision, revised) in meanwhile {
                if revised.changes.iter().any(|change| change.value.is_some()) {
                    return Err(format!(
                        "revision {revision} puts something while NOSPACE is raised: {revised:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Disk {
    fn see(&mut self, shown: Option<Shown>, is_filled: bool, is_whole: bool, now_ns: u64) {
        let is_short = match shown {
            Some(shown) => shown.level >= Level::Short,
            None => is_filled,
        };
        if is_short {
            self.short_ns = Some(now_ns);
        }
        self.roomy_since_ns = match shown.is_some() && !is_short && is_whole {
            true => self.roomy_since_ns.or(Some(now_ns)),
            false => None,
        };
        let is_known = self
            .roomy_since_ns
            .is_some_and(|since_ns| since_ns + LATE_NS <= now_ns);
        let is_old = self
            .short_ns
            .is_some_and(|short_ns| short_ns + REMEMBERED_NS <= now_ns);
        if is_known || is_old {
            self.short_ns = None;
        }
        if is_known && !is_filled {
            self.is_suspect = false;
        }
    }
}

/// Has a member asked to clear the alarm, whoever raised it.
fn clear(member: &Member) {
    member.with(|staged, tasks| {
        let core = staged.core.clone();
        tasks.spawn_local(async move {
            let cluster = core.store.cluster();
            let raised = cluster.alarms.iter();
            let of_room = raised.filter(|alarm| alarm.alarm == AlarmType::NoSpace);
            for alarm in of_room {
                let clear = request::Alarm::Deactivate(alarm.member, AlarmType::NoSpace);
                // Where it fails they ask again.
                drop(core.propose(Op::Alarm(clear)).await);
            }
        });
    });
}
