//! What goes on while the engine stalls, or a request over many keys is applied.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::peer::{Directory, Standing};
use crate::read::read_now;
use crate::types::KeyValue;
use crate::types::request::MemberAttributes;

/// Long for anything that waits for nobody, short for a test.
const AT_ONCE: Duration = Duration::from_secs(5);

fn directory(member: &Member) -> MemberDirectory {
    MemberDirectory::new(Local::default(), member.store.clone(), "")
}

fn publish(incarnation: u64) -> Op {
    Op::PublishMember {
        member: MemberId(2),
        incarnation,
        attributes: MemberAttributes::default(),
    }
}

fn value_of(store: &Arc<Store>, key: &'static str) -> Option<Bytes> {
    let query = Range::all(KeyRange::single(Bytes::from_static(key.as_bytes())));
    let (_, found) = read_now(store, &query).unwrap();
    let item = found.items.first()?;
    let bytes = Bytes::copy_from_slice(item.as_ref());
    Some(KeyValue::decode(&bytes).unwrap().value)
}

/// Runs what must wait for nobody.
async fn at_once<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let done = tokio::time::timeout(AT_ONCE, tokio::task::spawn_blocking(work)).await;
    done.expect("it waits for the engine").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_readers_nor_handshakes_wait_for_the_engine() {
    let member = Member::new();
    let mut entries = beginning();
    entries.push(batch(2, vec![put("key", "old")]));
    member.apply(&entries).await;
    let engine = member.store.engine();
    let gate = engine.stall();
    let applying = {
        let handle = member.handle();
        let entries = vec![batch(3, vec![put("key", "new"), publish(7)])];
        tokio::spawn(async move { handle.run(|done| Task::Apply { entries, done }).await })
    };
    wait_until("the engine is being written", || member.store.is_applying());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (store, peers) = (member.store.clone(), directory(&member));
    let seen = at_once(move || {
        (
            value_of(&store, "key"),
            store.revision(),
            store.read().mvcc.revision(),
            peers.standing(MemberId(2)),
            store.cluster().members.len(),
        )
    });
    let unpublished = Standing::Member { incarnation: 0 };
    let before = (Some("old".into()), Revision(2), Revision(2), unpublished, 3);
    assert_eq!(seen.await, before);
    assert!(!applying.is_finished());
    drop(gate);
    applying.await.unwrap().unwrap();
    assert_eq!(value_of(&member.store, "key"), Some("new".into()));
    let published = Standing::Member { incarnation: 7 };
    assert_eq!(directory(&member).standing(MemberId(2)), published);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_go_on_while_many_keys_are_deleted_and_see_all_or_none() {
    const KEYS: u64 = 100_000;
    let member = Member::new();
    member.apply(&beginning()).await;
    let mut index = 2;
    for from in (0..KEYS).step_by(5000) {
        let puts = (from..from + 5000).map(|n| put(&format!("key-{n:06}"), "v"));
        member.apply(&[batch(index, puts.collect())]).await;
        index += 1;
    }
    let (stop, store) = (Arc::new(AtomicBool::new(false)), member.store.clone());
    let reading = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let query = Range {
                limit: 3,
                ..all_keys()
            };
            let mut counts = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let applying = store.is_applying();
                let (_, found) = read_now(&store, &query).unwrap();
                assert_eq!(found.items.len() as i64, found.count.min(3));
                if applying && store.is_applying() {
                    counts.push(found.count);
                }
            }
            counts
        })
    };
    let all = DeleteRange {
        range: all_keys().range,
        prev_kv: false,
    };
    member
        .apply(&[batch(index, vec![Op::DeleteRange(all)])])
        .await;
    stop.store(true, Ordering::Relaxed);
    let counts = reading.join().unwrap();
    assert!(
        counts.len() > 3,
        "readers are let in {} times",
        counts.len()
    );
    let whole = i64::try_from(KEYS).unwrap();
    assert!(
        counts.iter().all(|count| [0, whole].contains(count)),
        "{counts:?}"
    );
    assert_eq!(value_of(&member.store, "key-000000"), None);
}

/// Whoever takes the state's lock may wait for what a client asked for: what runs on the Raft thread
/// looks at what is published beside it.
#[test]
fn nothing_on_the_raft_thread_takes_the_state_s_lock() {
    let server = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it"));
    let on_it = [
        "src/node/edge/barrier.rs",
        "src/node/members/changes.rs",
        "src/node/lead/corruption.rs",
        "src/node/members/counted_dial.rs",
        "src/node/members/directory.rs",
        "src/node/members/membership.rs",
        "src/node/members/peer_service.rs",
        "src/node/members/peers.rs",
        "src/node/edge/route.rs",
        "consensus/src/raft/consensus.rs",
        "consensus/src/raft/log_store.rs",
        "consensus/src/raft/network.rs",
        "consensus/src/raft/serve.rs",
        "consensus/src/raft/state_machine.rs",
    ];
    for name in on_it {
        let text = std::fs::read_to_string(server.join(name)).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        assert!(!product.contains("store.read()"), "{name} takes the lock");
    }
}
