//! The requests that `get`, `put` and `del` make of their flags, alone or within a transaction.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use engram_proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};

use super::lease_id;
use crate::cli::{Del, Get, Order, Put, SortBy};
use crate::failure::Failure;

/// What `get` asks for.
///
/// # Errors
/// Flags that exclude one another, or no key.
pub fn get(get: Get) -> Result<pb::RangeRequest, Failure> {
    if get.keys_only && get.count_only {
        return Err(Failure::arguments(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    bounds("CreateRev", get.min_create_rev, get.max_create_rev)?;
    bounds("ModRev", get.min_mod_rev, get.max_mod_rev)?;
    let key = match (get.key, get.prefix || get.from_key) {
        (Some(key), _) => key,
        (None, true) => OsString::new(),
        (None, false) => return Err(Failure::arguments("get command needs one argument as key")),
    };
    let (key, range_end) = range(key, get.range_end, get.prefix, get.from_key)?;
    Ok(pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: get.limit,
        revision: get.rev,
        sort_order: order(get.order).into(),
        sort_target: target(get.sort_by).into(),
        serializable: get.consistency == "s",
        keys_only: get.keys_only,
        count_only: get.count_only,
        min_mod_revision: get.min_mod_rev,
        max_mod_revision: get.max_mod_rev,
        min_create_revision: get.min_create_rev,
        max_create_revision: get.max_create_rev,
    })
}

/// What `put` asks for, with the value that its flags or its input gave.
///
/// # Errors
/// A lease that is none.
pub fn put(put: Put, value: Vec<u8>) -> Result<pb::PutRequest, Failure> {
    Ok(pb::PutRequest {
        key: put.key.into_vec().into(),
        value: value.into(),
        lease: lease_id(&put.lease)?,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    })
}

/// What `del` asks for.
///
/// # Errors
/// Flags that exclude one another.
pub fn delete(del: Del) -> Result<pb::DeleteRangeRequest, Failure> {
    let (key, range_end) = range(del.key, del.range_end, del.prefix, del.from_key)?;
    Ok(pb::DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: del.prev_kv,
    })
}

/// Key and range end of a request, as etcdctl makes them of arguments and flags.
///
/// # Errors
/// Flags that exclude one another.
pub fn range(
    key: OsString,
    range_end: Option<OsString>,
    prefix: bool,
    from_key: bool,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let conflict = (prefix && from_key) || (range_end.is_some() && (prefix || from_key));
    if conflict {
        return Err(Failure::arguments(
            "`--prefix`, `--from-key` and a range end cannot be set at the same time, choose one",
        ));
    }
    let key = key.into_vec();
    Ok(match (prefix, from_key) {
        (true, _) => prefix_range(&key),
        (_, true) => (begin(&key), vec![0]),
        _ => (key, range_end.unwrap_or_default().into_vec()),
    })
}

/// The keys with a prefix: the first, and the end.
pub fn prefix_range(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (begin(prefix), prefix_end(prefix))
}

/// The empty key begins at the first one.
fn begin(key: &[u8]) -> Vec<u8> {
    match key.is_empty() {
        true => vec![0],
        false => key.to_vec(),
    }
}

/// The end of the range of keys with a prefix: the first key behind them all; a zero byte where
/// there is none.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn bounds(of: &str, min: i64, max: i64) -> Result<(), Failure> {
    match max > 0 && min > max {
        true => Err(Failure::feature(format!(
            "getMin{of}(={min}) > getMax{of}(={max})"
        ))),
        false => Ok(()),
    }
}

fn order(order: Option<Order>) -> SortOrder {
    match order {
        None => SortOrder::None,
        Some(Order::Ascend) => SortOrder::Ascend,
        Some(Order::Descend) => SortOrder::Descend,
    }
}

fn target(by: Option<SortBy>) -> SortTarget {
    match by {
        None | Some(SortBy::Key) => SortTarget::Key,
        Some(SortBy::Create) => SortTarget::Create,
        Some(SortBy::Modify) => SortTarget::Mod,
        Some(SortBy::Value) => SortTarget::Value,
        Some(SortBy::Version) => SortTarget::Version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_etcdctls() {
        let of = |key: &str, end: Option<&str>, prefix, from| {
            range(key.into(), end.map(Into::into), prefix, from).ok()
        };
        assert_eq!(of("a", None, false, false), Some((b"a".to_vec(), vec![])));
        assert_eq!(
            of("a", Some("c"), false, false),
            Some((b"a".to_vec(), b"c".to_vec()))
        );
        assert_eq!(
            of("a", None, true, false),
            Some((b"a".to_vec(), b"b".to_vec()))
        );
        assert_eq!(of("", None, true, false), Some((vec![0], vec![0])));
        assert_eq!(of("a", None, false, true), Some((b"a".to_vec(), vec![0])));
        assert_eq!(of("a", Some("b"), true, false), None);
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), [0]);
    }
}
