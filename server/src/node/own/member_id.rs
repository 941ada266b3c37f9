//! Ids as etcd derives them, so that the same flags give the same ids.
//!
//! Source: `computeMemberID` and `genID` of etcd's membership package.

use std::time::{SystemTime, UNIX_EPOCH};

use sha1::{Digest, Sha1};

use crate::types::{ClusterId, MemberId};

/// A first member's id: of its sorted peer URLs and the cluster's token.
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut sorted: Vec<&String> = peer_urls.iter().collect();
    sorted.sort();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    MemberId(first_eight(&hash.finalize()))
}

/// The id of a member added later: of its sorted peer URLs and the second it is added in.
pub fn new_member_id(peer_urls: &[String], now: SystemTime) -> MemberId {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    member_id(peer_urls, &seconds.to_string())
}

/// The cluster's id: of the ids of its first members.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for member in sorted {
        hash.update(member.0.to_be_bytes());
    }
    ClusterId(first_eight(&hash.finalize()))
}

fn first_eight(digest: &[u8]) -> u64 {
    let bytes = digest.first_chunk().expect("SHA-1 has 20 bytes");
    u64::from_be_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids that etcd 3.7.3 gave for these flags (they are in the goldens too).
    #[test]
    fn ids_equal_etcds() {
        let urls = ["http://127.0.0.1:32380".to_owned()];
        let member = member_id(&urls, "etcd-cluster");
        assert_eq!(member, MemberId(443629905751424238));
        assert_eq!(cluster_id(&[member]), ClusterId(13455796455940752355));
    }
}
