//! A cluster reaches its quota with history: writes are refused until the operator has compacted,
//! reclaimed space and disarmed the alarm; nobody else does anything.

use engram_e2e::client;
use engram_e2e::kind::{Declared, wait_for};
use serde_json::json;

use crate::ci::content::client_of;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::step;

const NAMESPACE: &str = "full";
/// The quota, and the bytes of one value: each write makes the last one history.
const QUOTA: &str = "16Mi";
const VALUE_BYTES: usize = 256 << 10;
/// Far more writes than the quota has room for.
const MOST_WRITES: usize = 1_000;
const KEY: &str = "overwritten";

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(NAMESPACE, 3, &json!({ "config": { "quotaBytes": QUOTA } }));
    let written = step("writes until the quota is reached", || fill(&demo));
    step("space is reclaimed, writes go on", || {
        wait_for("a write is accepted again", READY_LIMIT, || {
            write(&demo).ok()
        });
    });
    let revision = write(&demo).expect("a write");
    assert!(revision > written, "{revision} after {written}");
    let events = ["get", "events", "-n", NAMESPACE, "-o", "name"];
    let cleared = ["--field-selector", "reason=NoSpaceCleared"];
    let events = demo.kind().must(&[&events[..], &cleared].concat());
    assert!(!events.trim().is_empty(), "the operator says that it did");
    lab.clear(NAMESPACE);
}

/// Overwrites one key until that is refused for lack of space; the last revision.
fn fill(demo: &Declared) -> i64 {
    let mut last = 0;
    for _ in 0..MOST_WRITES {
        match write(demo) {
            Ok(revision) => last = revision,
            Err(refusal) => {
                assert!(refusal.contains("database space exceeded"), "{refusal}");
                return last;
            }
        }
    }
    panic!("{MOST_WRITES} writes of {VALUE_BYTES} bytes, and no alarm");
}

fn write(demo: &Declared) -> Result<i64, String> {
    client::runtime().block_on(async {
        let value = vec![b'v'; VALUE_BYTES];
        let written = client_of(demo).await.put(KEY, value).await;
        written.map_err(|status| status.message().to_owned())
    })
}
