//! A leader that was paused and goes on must not revoke what clients renewed at its successor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::random;
use engram_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest};
use tonic::codegen::tokio_stream;

use crate::case;
use crate::ci_or_full;

const TTL: Duration = Duration::from_secs(4);
/// Longer than the leases live, and than an election.
const PAUSE: Duration = Duration::from_millis(6_500);
/// What the old leader needs to do wrong, once it goes on.
const AFTERWARDS: Duration = Duration::from_millis(2_500);
const LEASES: i64 = 5;
const RENEWED_EVERY: Duration = Duration::from_millis(400);

#[test]
fn a_paused_leader_revokes_nothing_that_was_renewed_elsewhere() {
    let case = case::begin("leases across a pause of the leader");
    let mut cluster = Plan::of(3).start();
    let pauses = random::number_from("ENGRAM_FAULTS_PAUSES").unwrap_or(ci_or_full(1, 200));
    let mut lost = 0;
    for round in 0..i64::try_from(pauses).expect("few") {
        lost += one_pause(&mut cluster, round);
    }
    case.saw(format!(
        "{lost} of {} leases that were renewed were revoked, {pauses} pauses",
        pauses * LEASES.unsigned_abs()
    ));
    cluster.must(lost == 0, || format!("{lost} leases were revoked early"));
}

/// Returns how many leases went although they were renewed.
fn one_pause(cluster: &mut Cluster, round: i64) -> usize {
    let paused = cluster.wait_for_leader(LEADER_LIMIT).place;
    let others: Vec<SocketAddr> = (0..3)
        .filter(|place| *place != paused)
        .map(|place| cluster.server(place).address())
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let ids: Vec<i64> = (1..=LEASES).map(|number| round * LEASES + number).collect();
    let keepers: Vec<_> = ids
        .iter()
        .map(|id| {
            let keeper = keep(*id, others.clone(), stop.clone());
            cluster.runtime().spawn(keeper)
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1_500));
    cluster.pause(paused);
    std::thread::sleep(PAUSE);
    cluster.resume(paused);
    std::thread::sleep(AFTERWARDS);
    stop.store(true, Ordering::Relaxed);
    let ends = keepers.into_iter().map(|keeper| {
        let end = cluster.runtime().block_on(keeper);
        end.expect("a keeper does not panic")
    });
    ends.filter(|end| *end == Kept::Revoked).count()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Lives,
    /// It is gone, less than its time to live after it was renewed.
    Revoked,
}

/// Grants a lease with a key, renews it until told to stop, and looks for the key.
async fn keep(id: i64, members: Vec<SocketAddr>, stop: Arc<AtomicBool>) -> Kept {
    let mut clients: Vec<Client> = members.into_iter().map(Client::lazy).collect();
    let key = format!("leased/{id}");
    let grant = LeaseGrantRequest {
        ttl: i64::try_from(TTL.as_secs()).expect("few"),
        id,
    };
    clients[0].lease.lease_grant(grant).await.expect("a lease");
    let put = PutRequest {
        key: key.clone().into(),
        lease: id,
        ..PutRequest::default()
    };
    clients[0].kv.put(put).await.expect("a put");
    let mut renewed = Instant::now();
    for turn in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        match renew(&mut clients[turn % 2], id).await {
            Some(true) => renewed = begun,
            Some(false) if renewed.elapsed() < TTL => return Kept::Revoked,
            // Nobody leads, or it ran out because nobody did.
            Some(false) | None => {}
        }
        tokio::time::sleep(RENEWED_EVERY).await;
    }
    let read = clients[0].get(key.as_str(), 0).await.expect("a read");
    // Without a renewal for its time to live it may have gone.
    match read.kvs.is_empty() && renewed.elapsed() < TTL {
        true => Kept::Revoked,
        false => Kept::Lives,
    }
}

/// Whether the lease lives; `None` without an answer.
async fn renew(client: &mut Client, id: i64) -> Option<bool> {
    let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
    let call = async {
        let mut answers = client
            .lease
            .lease_keep_alive(requests)
            .await
            .ok()?
            .into_inner();
        answers.message().await.ok()?
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), call)
        .await
        .ok()??;
    Some(answer.ttl > 0)
}
