//! One file a family of verbs.

pub mod backup;
pub mod endpoint;
pub mod kv;
pub mod lease;
pub mod maintenance;
pub mod member;
pub mod restore;
pub mod snapshot;
pub mod txn;
pub mod watch;

use crate::failure::Failure;

/// Bytes of an answer that are taken: a range may have any size.
const ANSWER_BYTES_MAX: usize = usize::MAX;

/// A lease's id, hexadecimal as etcdctl takes it.
fn lease_id(text: &str) -> Result<i64, Failure> {
    let id = u64::from_str_radix(text, 16).map(u64::cast_signed);
    id.map_err(|_| Failure::arguments(format!("bad lease ID ({text}), expecting ID in hex")))
}

/// A member's id, hexadecimal.
fn member_id(text: &str) -> Result<u64, Failure> {
    u64::from_str_radix(text, 16)
        .map_err(|_| Failure::arguments(format!("bad member ID arg ({text}), expecting ID in Hex")))
}

/// The end of the range of keys with a prefix: the first key behind them all; a zero byte where
/// there is none.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Key and range end of a request, as etcdctl makes them of arguments and flags.
fn range(
    key: &str,
    range_end: Option<&str>,
    prefix: bool,
    from_key: bool,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let conflict = (prefix && from_key) || (range_end.is_some() && (prefix || from_key));
    if conflict {
        return Err(Failure::arguments(
            "`--prefix`, `--from-key` and a range end cannot be set at the same time, choose one",
        ));
    }
    let key = key.as_bytes().to_vec();
    // The empty key begins at the first one.
    let start = match key.is_empty() && (prefix || from_key) {
        true => vec![0],
        false => key.clone(),
    };
    let end = match (prefix, from_key) {
        (true, _) => prefix_end(&key),
        (_, true) => vec![0],
        _ => range_end.unwrap_or_default().as_bytes().to_vec(),
    };
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_etcdctls() {
        let of = |key, end, prefix, from| range(key, end, prefix, from).ok();
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
