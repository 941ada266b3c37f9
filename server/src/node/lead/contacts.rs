//! Since when the leader is in touch with the others without a break.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::types::MemberId;

/// See the module. A new term begins with nobody: only a leader hears from the others.
#[derive(Debug, Default)]
pub struct Contacts {
    /// The term that this member leads, and since when.
    leads: Option<(u64, Instant)>,
    since: BTreeMap<MemberId, Instant>,
}

impl Contacts {
    /// Takes note of how long ago the others were heard of, at `now`, by the leader of `term`; none
    /// where this member does not lead. Who was silent for `silence_max` begins anew.
    pub fn note(
        &mut self,
        term: Option<u64>,
        silent_for: &BTreeMap<MemberId, Duration>,
        now: Instant,
        silence_max: Duration,
    ) {
        if self.leads.map(|(term, _)| term) != term {
            self.leads = term.map(|term| (term, now));
            self.since.clear();
        }
        let heard = |id: &MemberId| silent_for.get(id).filter(|silent| **silent < silence_max);
        self.since.retain(|id, _| heard(id).is_some());
        for id in silent_for.keys() {
            let Some(silent) = heard(id) else { continue };
            self.since.entry(*id).or_insert(now - *silent);
        }
    }

    /// Whether a member is in touch for at least `long` at `now`. Where a term is too young to tell,
    /// it is enough that the connections to it stand for as long, which is all that etcd asks. One whose
    /// connections have ended is not, however lately it was heard: a process that was killed a moment ago.
    pub fn is_lasting(
        &self,
        id: MemberId,
        connected: Option<Instant>,
        now: Instant,
        long: Duration,
    ) -> bool {
        let Some(connected) = connected else {
            return false;
        };
        let lasts = |since: Instant| now.saturating_duration_since(since) >= long;
        let heard = self.since.get(&id).copied();
        if heard.is_some_and(lasts) {
            return true;
        }
        let is_young = self.leads.is_some_and(|(_, began)| !lasts(began));
        (heard.is_some() || is_young) && lasts(connected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(5);
    const A: MemberId = MemberId(1);
    const B: MemberId = MemberId(2);

    #[test]
    fn a_break_or_another_term_begins_anew() {
        let start = Instant::now();
        let mut contacts = Contacts::default();
        let mut at = |seconds: u32, term, heard: &[(MemberId, Duration)]| {
            let (now, heard) = (start + SECOND * seconds, heard.iter().copied().collect());
            contacts.note(term, &heard, now, SECOND);
            // A connection that was made anew a moment ago.
            [A, B].map(|id| contacts.is_lasting(id, Some(now), now, LONG))
        };
        let zero = Duration::ZERO;
        assert_eq!(at(0, Some(1), &[(A, zero), (B, zero)]), [false; 2]);
        assert_eq!(at(3, Some(1), &[(A, zero), (B, SECOND)]), [false; 2]);
        assert_eq!(at(5, Some(1), &[(A, zero), (B, zero)]), [true, false]);
        assert_eq!(at(10, Some(1), &[(A, zero), (B, zero)]), [true; 2]);
        assert_eq!(at(11, Some(2), &[(A, zero), (B, zero)]), [false; 2]);
        assert_eq!(at(20, None, &[]), [false; 2]);
    }

    #[test]
    fn whose_connections_have_ended_is_not_in_touch() {
        let start = Instant::now();
        let mut contacts = Contacts::default();
        let heard = BTreeMap::from([(A, Duration::ZERO)]);
        contacts.note(Some(1), &heard, start, SECOND);
        let now = start + LONG;
        contacts.note(Some(1), &heard, now, SECOND);
        assert!(contacts.is_lasting(A, Some(start), now, LONG));
        assert!(!contacts.is_lasting(A, None, now, LONG));
    }

    #[test]
    fn a_new_leader_goes_by_its_connections_until_it_can_tell() {
        let start = Instant::now();
        let mut contacts = Contacts::default();
        let mut at = |seconds: u32, heard: &[(MemberId, Duration)]| {
            let (now, heard) = (start + SECOND * seconds, heard.iter().copied().collect());
            contacts.note(Some(2), &heard, now, SECOND);
            let connected = Some(start - LONG);
            [A, B].map(|id| contacts.is_lasting(id, connected, now, LONG))
        };
        assert_eq!(at(0, &[]), [true; 2]);
        assert_eq!(at(4, &[(A, Duration::ZERO)]), [true; 2]);
        assert_eq!(
            at(5, &[(A, Duration::ZERO)]),
            [true, false],
            "B never answered"
        );
        let now = start + SECOND * 5;
        assert!(!Contacts::default().is_lasting(A, Some(start - LONG), now, LONG));
        assert!(!contacts.is_lasting(A, Some(now), start + SECOND * 6, LONG));
    }
}
