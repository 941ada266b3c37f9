//! Since when the leader is in touch with the others without a break.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::types::MemberId;

/// See the module. A new term begins with nobody: only a leader hears from the others.
#[derive(Debug, Default)]
pub struct Contacts {
    term: Option<u64>,
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
        if self.term != term {
            self.term = term;
            self.since.clear();
        }
        let heard = |id: &MemberId| silent_for.get(id).filter(|silent| **silent < silence_max);
        self.since.retain(|id, _| heard(id).is_some());
        for id in silent_for.keys() {
            let Some(silent) = heard(id) else { continue };
            self.since.entry(*id).or_insert(now - *silent);
        }
    }

    /// Who is in touch for at least `long` at `now`.
    pub fn lasting(&self, now: Instant, long: Duration) -> BTreeSet<MemberId> {
        let since = self.since.iter();
        let lasting = since.filter(|(_, since)| now.saturating_duration_since(**since) >= long);
        lasting.map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_or_another_term_begins_anew() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let (a, b) = (MemberId(1), MemberId(2));
        let mut contacts = Contacts::default();
        let mut at = |seconds: u32, term, heard: &[(MemberId, Duration)]| {
            let (now, heard) = (start + second * seconds, heard.iter().copied().collect());
            contacts.note(term, &heard, now, second);
            contacts
                .lasting(now, second * 5)
                .into_iter()
                .collect::<Vec<_>>()
        };
        let zero = Duration::ZERO;
        assert!(at(0, Some(1), &[(a, zero), (b, zero)]).is_empty());
        assert!(at(3, Some(1), &[(a, zero), (b, second)]).is_empty());
        assert_eq!(at(5, Some(1), &[(a, zero), (b, zero)]), [a]);
        assert_eq!(at(10, Some(1), &[(a, zero), (b, zero)]), [a, b]);
        assert!(at(11, Some(2), &[(a, zero), (b, zero)]).is_empty());
        assert!(at(20, None, &[]).is_empty());
    }
}
