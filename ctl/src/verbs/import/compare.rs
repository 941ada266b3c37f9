//! Both clusters, read once more: the same keys, with the same values and leases.

use engram_proto::mvccpb::KeyValue;

use super::side::{Pages, Side};
use crate::failure::Failure;

/// Compares each at its revision; how many keys they have.
///
/// # Errors
/// They differ; the first key that does is named.
pub(super) async fn both(
    (from, from_revision): (&Side, i64),
    (to, to_revision): (&Side, i64),
) -> Result<usize, Failure> {
    let mut left = Keys::of(from.pages(from_revision));
    let mut right = Keys::of(to.pages(to_revision));
    let mut count = 0;
    loop {
        match (left.next().await?, right.next().await?) {
            (None, None) => return Ok(count),
            (Some(one), Some(other)) if is_same(&one, &other) => {
                count += 1;
            }
            (one, other) => {
                let key = one.or(other).map(|kv| kv.key).unwrap_or_default();
                return Err(Failure::new(format!(
                    "the clusters differ at key {:?}: somebody else writes to the target; begin again with --replace",
                    String::from_utf8_lossy(&key)
                )));
            }
        }
    }
}

fn is_same(one: &KeyValue, other: &KeyValue) -> bool {
    // A lease that had run out when its key was copied was not made again; the key goes as it does in the
    // source.
    let lease = one.lease == other.lease || other.lease == 0;
    one.key == other.key && one.value == other.value && lease
}

/// Key by key.
struct Keys<'a> {
    pages: Pages<'a>,
    page: std::vec::IntoIter<KeyValue>,
}

impl<'a> Keys<'a> {
    fn of(pages: Pages<'a>) -> Self {
        Self {
            pages,
            page: Vec::new().into_iter(),
        }
    }

    async fn next(&mut self) -> Result<Option<KeyValue>, Failure> {
        loop {
            if let Some(kv) = self.page.next() {
                return Ok(Some(kv));
            }
            match self.pages.next().await? {
                Some(page) => self.page = page.into_iter(),
                None => return Ok(None),
            }
        }
    }
}
