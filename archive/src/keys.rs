//! Which keys an archive's segments need.

use std::collections::BTreeMap;

use engram_objects::{KeyId, ObjectError};
use futures_util::StreamExt as _;

use crate::chain::{Archive, ArchiveError, Place};

/// Segments of a chain whose first bytes are read: each one of a shorter chain, of a longer one so many, evenly.
const READS_MAX: usize = 1024;
/// How many of them at the same time.
const READS_AT_ONCE: usize = 16;

/// Which keys segments need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// How many of those that were looked at need each; none: they are not encrypted.
    pub by_key: BTreeMap<Option<KeyId>, u64>,
    /// Those that do not tell, being damaged or of a newer format, and why.
    pub untold: Vec<String>,
}

impl Archive {
    /// The keys that segments are encrypted with, whether they are given or not. All are looked at where a chain has
    /// up to 1024; of a longer one so many, evenly, its first and its last among them.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn keys(&self) -> Result<Needed, ArchiveError> {
        let mut found = Needed::default();
        for whose in self.owners().await? {
            for run in self.runs(&whose).await? {
                let there = self.sequences(&whose, run).await?;
                let reads = spread(there.len(), READS_MAX).map(|index| {
                    let place = Place {
                        whose: whose.clone(),
                        run,
                        sequence: there[index].0,
                    };
                    async move { self.key_of(&place).await }
                });
                let mut keys = futures_util::stream::iter(reads).buffer_unordered(READS_AT_ONCE);
                while let Some(key) = keys.next().await {
                    match key {
                        Ok(Some(key)) => *found.by_key.entry(key).or_default() += 1,
                        // One that is gone by now was pruned, and needs none.
                        Ok(None) => {}
                        // It says nothing of the others.
                        Err(ArchiveError::Object(error @ ObjectError::Cipher { .. })) => {
                            found.untold.push(error.to_string());
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Places among so many: all of them, or `most` of them evenly, the first and the last among them.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let wanted = count.min(most);
    (0..wanted).map(move |index| match wanted {
        1 => 0,
        _ => index * (count - 1) / (wanted - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_from_the_first_to_the_last() {
        let of = |count, most| spread(count, most).collect::<Vec<_>>();
        assert_eq!(of(0, 4), Vec::<usize>::new());
        assert_eq!(of(1, 4), [0]);
        assert_eq!(of(4, 4), [0, 1, 2, 3]);
        assert_eq!(of(10, 4), [0, 3, 6, 9]);
        let many = of(100_000, READS_MAX);
        assert_eq!(
            (many.len(), many[0], many[READS_MAX - 1]),
            (READS_MAX, 0, 99_999)
        );
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
