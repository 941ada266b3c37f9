//! All members hold the same data.

use std::time::Duration;

use engram_proto::etcdserverpb::HashKvRequest;

use super::Cluster;
use crate::client::Client;
use crate::client::revision_of;

/// How long the slowest member may take to catch up and to hash.
const HASH_LIMIT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Waits until the members that are awake hold the same keys and history at the newest
    /// revision; returns that revision. There must be no learner among them: it would refuse.
    ///
    /// # Panics
    /// If they do not in time, with each one's hash.
    pub fn must_hold_the_same(&self) -> i64 {
        let places = self.awake();
        let revision = self.wait_for(HASH_LIMIT, "a linearizable read", || {
            self.revision(places[0])
        });
        let mut hashes = Vec::new();
        let deadline = std::time::Instant::now() + HASH_LIMIT;
        while std::time::Instant::now() < deadline {
            hashes = places
                .iter()
                .map(|place| self.hash(*place, revision))
                .collect();
            // The same hash of the same window of history, and no member without an answer.
            if hashes[0].is_ok() && hashes.iter().all(|hash| *hash == hashes[0]) {
                return revision;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let names = places.iter().map(|place| self.server(*place).name());
        let told: Vec<String> = names
            .zip(&hashes)
            .map(|(name, hash)| format!("{name}: {hash:?}"))
            .collect();
        self.fail(&format!(
            "the members' hashes (hash, compacted revision) at revision {revision} differ: {}",
            told.join(", ")
        ));
    }

    /// The newest revision, by a linearizable read at the member at `place`.
    pub fn revision(&self, place: usize) -> Option<i64> {
        let address = self.server(place).address();
        let read = async move { Client::lazy(address).get("nothing", 0).await };
        let answer = self.runtime().block_on(read).ok()?;
        Some(revision_of(answer.header.as_ref()))
    }

    /// Hash and compacted revision of a member at `revision`.
    fn hash(&self, place: usize, revision: i64) -> Result<(u32, i64), String> {
        let address = self.server(place).address();
        let request = HashKvRequest { revision };
        let ask = async move { Client::lazy(address).maintenance.hash_kv(request).await };
        let answer = self.runtime().block_on(ask);
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        Ok((answer.hash, answer.compact_revision))
    }
}
