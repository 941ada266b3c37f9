//! Users on three members: who asks is known wherever it is asked, and travels with what is forwarded.

use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::users::{Caller, PASSWORD, make_users};
use engram_e2e::{tools, turn};
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::{
    AuthDisableRequest, AuthStatusRequest, AuthUserRevokeRoleRequest, LeaseGrantRequest,
    PutRequest, RangeRequest,
};
use tonic::Status;

const SOON: Duration = Duration::from_secs(10);

async fn put(cluster: &Cluster, place: usize, who: &Caller, key: &str) -> Result<(), Status> {
    let mut client = Client::connect(cluster.addresses()[place]).await;
    let put = PutRequest {
        key: key.as_bytes().to_vec().into(),
        ..PutRequest::default()
    };
    client.kv.put(who.request(put)).await.map(drop)
}

async fn get(cluster: &Cluster, place: usize, who: &Caller, key: &str) -> Result<usize, Status> {
    let mut client = Client::connect(cluster.addresses()[place]).await;
    let get = RangeRequest {
        key: key.as_bytes().to_vec().into(),
        ..RangeRequest::default()
    };
    let found = client.kv.range(who.request(get)).await?;
    Ok(found.into_inner().kvs.len())
}

fn said<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    answer.expect_err("a refusal").message().to_owned()
}

#[test]
fn who_asks_is_known_at_every_member_and_after_the_leader_is_gone() {
    let _turn = turn::take("users on three members");
    let mut cluster = Plan::of(3).flag("--bcrypt-cost=4").start();
    let runtime = cluster.runtime().clone();
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let follower = (leader + 1) % 3;
    let (root, alice) = runtime.block_on(async {
        // Users are made through a follower.
        let addresses = cluster.addresses();
        make_users(addresses[follower], &["alice"]).await;
        // A token of one member is known to the others at once: it is assigned by the log.
        for round in 0..20 {
            let alice = Caller::user(addresses[round % 3], "alice").await;
            let other = (round + 1) % 3;
            let put = put(&cluster, other, &alice, "alice/1").await;
            put.expect("alice may, wherever she asks");
        }
        let root = Caller::user(addresses[leader], "root").await;
        let alice = Caller::user(addresses[follower], "alice").await;
        for place in 0..3 {
            assert_eq!(said(put(&cluster, place, &alice, "bob").await), DENIED);
            assert_eq!(said(get(&cluster, place, &alice, "bob").await), DENIED);
            put(&cluster, place, &root, "bob").await.expect("root may");
            let found = get(&cluster, place, &alice, "alice/1").await;
            assert_eq!(found.expect("alice may"), 1);
        }
        let nobody = Caller {
            token: None,
            ..alice.clone()
        };
        let refused = "etcdserver: user name is empty";
        assert_eq!(
            said(put(&cluster, follower, &nobody, "alice/1").await),
            refused
        );
        (root, alice)
    });
    cluster.kill(leader);
    runtime.block_on(async {
        // Who leads is told to nobody without a token, as in etcd: whether somebody does shows so.
        let began = Instant::now();
        while let Err(refused) = put(&cluster, follower, &alice, "alice/1").await {
            assert!(
                began.elapsed() < LEADER_LIMIT,
                "her token outlives the leader: {refused}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(said(put(&cluster, follower, &alice, "bob").await), DENIED);
        let mut auth =
            AuthClient::new(Client::connect(cluster.addresses()[follower]).await.channel);
        let revoke = AuthUserRevokeRoleRequest {
            name: "alice".into(),
            role: "alice".into(),
        };
        let revoked = auth.user_revoke_role(root.request(revoke)).await;
        revoked.expect("root may");
    });
    // The one that was away learns what it missed before it lets anybody read.
    cluster.restart(leader);
    runtime.block_on(async {
        let alice = Caller::user(cluster.addresses()[leader], "alice").await;
        for place in 0..3 {
            assert_eq!(said(get(&cluster, place, &alice, "alice/1").await), DENIED);
        }
        let mut revisions = Vec::new();
        for address in cluster.addresses() {
            let mut auth = AuthClient::new(Client::connect(address).await.channel);
            let status = auth.auth_status(AuthStatusRequest {}).await;
            let status = status.expect("anybody may ask").into_inner();
            revisions.push((status.enabled, status.auth_revision));
        }
        assert!(
            revisions[0].0 && revisions.iter().all(|r| *r == revisions[0]),
            "{revisions:?}"
        );
    });
    leases_expire_and_keys_go(&cluster);
    runtime.block_on(async {
        let root = Caller::user(cluster.addresses()[follower], "root").await;
        let mut auth = AuthClient::new(root.channel.clone());
        let disabled = auth.auth_disable(root.request(AuthDisableRequest {})).await;
        disabled.expect("root may");
        let nobody = Caller {
            token: None,
            ..root
        };
        for place in 0..3 {
            put(&cluster, place, &nobody, "bob")
                .await
                .expect("anybody may");
        }
    });
    cluster.must_hold_the_same();
}

/// What the leader does by itself is refused to nobody: a lease ends, and its keys with it.
fn leases_expire_and_keys_go(cluster: &Cluster) {
    let runtime = cluster.runtime().clone();
    runtime.block_on(async {
        let address = cluster.addresses()[0];
        let root = Caller::user(address, "root").await;
        let mut client = Client::connect(address).await;
        let grant = LeaseGrantRequest { ttl: 2, id: 0 };
        let granted = client.lease.lease_grant(root.request(grant)).await;
        let lease = granted.expect("a lease").into_inner().id;
        let put = PutRequest {
            key: "leased".into(),
            lease,
            ..PutRequest::default()
        };
        client.kv.put(root.request(put)).await.expect("root may");
        let began = Instant::now();
        while get(cluster, 0, &root, "leased").await.expect("root may") > 0 {
            assert!(began.elapsed() < SOON, "the lease does not end");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Writes more than the log keeps for members that lag.
async fn outgrow_the_log(cluster: &Cluster, place: usize) {
    let mut client = Client::connect(cluster.addresses()[place]).await;
    for _ in 0..FILLERS {
        let filled = client.put("filler", vec![b'x'; FILLER_BYTES]).await;
        filled.expect("a put while two of three are there");
    }
}

/// Waits until the member knows the users.
async fn knows_alice(cluster: &Cluster, place: usize) -> Caller {
    let nobody = Caller::nobody(cluster.addresses()[place]).await;
    let began = Instant::now();
    loop {
        match nobody.authenticate("alice").await {
            Ok(token) => {
                return Caller {
                    token: Some(token),
                    ..nobody
                };
            }
            Err(refused) => assert!(began.elapsed() < LEADER_LIMIT, "{refused}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// HashKV of every member, as root asks for it.
fn hashes(cluster: &Cluster, places: &[usize]) -> Vec<String> {
    let mut ask = cluster.etcdctl_command(places);
    let root = format!("--user=root:{PASSWORD}root");
    let said = tools::must_succeed(ask.args([&root, "endpoint", "hashkv"]));
    let hash = |line: &str| line.split(", ").skip(1).collect::<Vec<_>>().join(" ");
    said.lines().map(hash).collect()
}

#[test]
fn users_reach_a_member_that_was_away_and_one_that_joins() {
    let _turn = turn::take("users by snapshot");
    let plan = Plan::of(3).flag("--bcrypt-cost=4");
    let plan = plan.flag("--snapshot-count=50");
    let mut cluster = plan.flag("--snapshot-catchup-entries=10").start();
    let runtime = cluster.runtime().clone();
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let away = (leader + 1) % 3;
    cluster.kill(away);
    let root = runtime.block_on(async {
        outgrow_the_log(&cluster, leader).await;
        make_users(cluster.addresses()[leader], &["alice"]).await;
        let root = Caller::user(cluster.addresses()[leader], "root").await;
        put(&cluster, leader, &root, "alice/1")
            .await
            .expect("root may");
        root
    });
    // For as long as the leader takes a member for one in touch, it holds the log for it.
    std::thread::sleep(OUT_OF_TOUCH);
    let mut compact = cluster.etcdctl_command(&[leader]);
    let user = format!("--user=root:{PASSWORD}root");
    tools::must_succeed(compact.args([&user, "compact", "20"]));
    cluster.restart(away);
    cluster.administer_as(root);
    let joined = cluster.add_member(leader, false);
    cluster.must_become_ready(joined);
    for place in [away, joined] {
        let metrics = cluster.server(place).metrics();
        let received = |line: &str| line.starts_with(RECEIVED) && !line.ends_with(" 0");
        assert!(metrics.lines().any(received), "no snapshot came to {place}");
        runtime.block_on(async {
            let alice = knows_alice(&cluster, place).await;
            let found = get(&cluster, place, &alice, "alice/1").await;
            assert_eq!(found.expect("alice may"), 1);
            assert_eq!(said(put(&cluster, place, &alice, "bob").await), DENIED);
            let nobody = Caller {
                token: None,
                ..alice
            };
            let refused = said(get(&cluster, place, &nobody, "alice/1").await);
            assert_eq!(refused, "etcdserver: user name is empty");
        });
    }
    let mut hashes = hashes(&cluster, &[0, 1, 2, joined]);
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

const DENIED: &str = "etcdserver: permission denied";
/// More than the 64 MiB that the log keeps.
const FILLERS: usize = 80;
const FILLER_BYTES: usize = 1 << 20;
/// Longer than the leader holds the log for a member that it does not hear.
const OUT_OF_TOUCH: Duration = Duration::from_secs(7);
/// What etcd counts at the receiver of a snapshot.
const RECEIVED: &str = "etcd_network_snapshot_receive_success";
