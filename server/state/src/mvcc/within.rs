//! Reads that are answered at once as far as they are little work, and else left for later.

use crate::types::request::{self, SortTarget};
use crate::types::result::{self, ApplyError, Away, Later};
use crate::types::{Revision, RevisionPair};

use super::super::effects::{Meter, Values};
use super::read::Plan;
use super::{Horizon, Mvcc};

/// Reading a value from storage is as much work as looking at so many keys.
const VALUE_KEYS: usize = 8;

impl Mvcc {
    /// Answers a range for a reader who sees so far (`horizon`), the changes before `seen`. A single key is always answered; more only within the meter.
    ///
    /// # Errors
    /// The revision asked for is compacted or in the future.
    pub(crate) fn range_within(
        &self,
        query: &request::Range,
        horizon: Horizon,
        seen: RevisionPair,
        meter: &mut Meter,
        values: &dyn Values,
    ) -> Result<result::Range, ApplyError> {
        let at = horizon.readable(query.revision)?;
        let head = horizon.revision;
        let named = query.revision > 0;
        let present = !meter.past;
        if present && self.fits(query, at, meter) {
            return self.range_at_head(query, horizon, values);
        }
        let below = match named {
            true => RevisionPair {
                main: at.next(),
                sub: 0,
            },
            false => seen,
        };
        meter.leave(Revision(below.main.0 - 1));
        Ok(result::Range {
            revision: head,
            away: Some(Box::new(Away::Later(Later {
                query: query.clone(),
                below,
                count: match present && !named {
                    true => self.count_at_tip(&query.range, head),
                    false => None,
                },
            }))),
            ..result::Range::default()
        })
    }

    /// Whether answering `query` at `at` is within the meter, which is charged for it.
    pub fn fits(&self, query: &request::Range, at: Revision, meter: &mut Meter) -> bool {
        if query.range.is_single() {
            return true;
        }
        let plain = query.count_only || Plan::serves(query);
        let counted = !plain || self.counts_quickly(&query.range, at, meter.keys);
        if !counted {
            return false;
        }
        if query.count_only {
            return true;
        }
        match (plain, query.sort_target) {
            (true, _) => self.take_page(query, at, meter),
            (false, SortTarget::Value) => self.take_all(query, VALUE_KEYS, meter),
            (false, _) => self.take_all(query, 1, meter),
        }
    }

    /// Charges the meter for the first keys of a range in key order, up to the query's limit.
    fn take_page(&self, query: &request::Range, at: Revision, meter: &mut Meter) -> bool {
        let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0);
        let limit = limit.unwrap_or(usize::MAX);
        if limit > meter.keys && self.keys_to_look_at(&query.range) > meter.keys {
            return false;
        }
        let mut entries = self.entries(&query.range);
        let (mut looked, mut found, mut bytes) = (0, 0, 0);
        while found < limit {
            let entry = match query.sort_order {
                request::SortOrder::Descend => entries.next_back(),
                _ => entries.next(),
            };
            let Some(entry) = entry else { break };
            looked += 1;
            if let Some(version) = entry.at(at) {
                found += 1;
                bytes += version.bytes() as usize;
            }
            if looked > meter.keys || bytes > meter.bytes {
                return false;
            }
        }
        meter.take(looked, bytes)
    }

    /// Charges the meter for all keys of a range.
    fn take_all(&self, query: &request::Range, weight: usize, meter: &mut Meter) -> bool {
        let keys = self.keys_to_look_at(&query.range).saturating_mul(weight);
        if keys > meter.keys {
            return false;
        }
        let entries = self.entries(&query.range);
        let bytes = entries.map(|entry| entry.newest().bytes() as usize).sum();
        meter.take(keys, bytes)
    }
}
