//! What goes on while the engine stalls.

use super::*;
use crate::peer::{Directory, Standing};
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

/// Runs what must wait for nobody.
async fn at_once<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let done = tokio::time::timeout(AT_ONCE, tokio::task::spawn_blocking(work)).await;
    done.expect("it waits for the engine").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::await_holding_lock,
    reason = "the engine stands still for as long as it is held"
)]
async fn handshakes_do_not_wait_for_the_engine() {
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
    wait_until("the engine is being written", || member.store.is_taken());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (store, peers) = (member.store.clone(), directory(&member));
    let seen = at_once(move || {
        (
            store.revision(),
            store.compact_revision(),
            peers.standing(MemberId(2)),
            store.cluster().members.len(),
        )
    });
    let unpublished = Standing::Member { incarnation: 0 };
    assert_eq!(seen.await, (Revision(2), Revision(0), unpublished, 3));
    assert!(!applying.is_finished());
    drop(gate);
    applying.await.unwrap().unwrap();
    let published = Standing::Member { incarnation: 7 };
    assert_eq!(directory(&member).standing(MemberId(2)), published);
}

/// Whoever takes the state's lock may wait for what a client asked for: what runs on the Raft thread
/// looks at what is published beside it.
#[test]
fn nothing_on_the_raft_thread_takes_the_state_s_lock() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let on_it = [
        "node/barrier.rs",
        "node/changes.rs",
        "node/corruption.rs",
        "node/counted_dial.rs",
        "node/directory.rs",
        "node/membership.rs",
        "node/peer_service.rs",
        "node/peers.rs",
        "node/route.rs",
        "raft/consensus.rs",
        "raft/log_store.rs",
        "raft/network.rs",
        "raft/serve.rs",
        "raft/state_machine.rs",
    ];
    for name in on_it {
        let text = std::fs::read_to_string(sources.join(name)).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        assert!(!product.contains("store.read()"), "{name} takes the lock");
    }
}
