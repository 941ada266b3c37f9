//! The leader and one more are gone: the one that is left says so, at once and everywhere.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use engram_e2e::client::Client;
use engram_e2e::cluster::{Cluster, ELECTION_TIMEOUT, LEADER_LIMIT, Plan};
use engram_proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberRemoveRequest, WatchCreateRequest, WatchRequest,
    watch_request,
};
use tonic::codegen::tokio_stream;
use tonic::{Code, Request, Status};

use crate::case::{self, Case};

/// After the last contact: an election timeout and a busy machine.
const TOLD_LIMIT: Duration = Duration::from_secs(3);
/// Streams that want a leader end after three election timeouts without one.
const STREAM_LIMIT: Duration = Duration::from_secs(8);
const HEALTH_LIMIT: Duration = Duration::from_secs(1);

#[test]
fn a_member_left_alone_by_a_pause_says_so() {
    let case = case::begin("no leader, others paused");
    let mut cluster = Plan::of(3).start();
    let left = a_follower(&cluster);
    let watch = open_watch(&cluster, left);
    for place in others(left) {
        cluster.pause(place);
    }
    says_so(&case, &cluster, left, watch);
    for place in others(left) {
        cluster.resume(place);
    }
    cluster.wait_for_leader(LEADER_LIMIT);
}

#[test]
fn a_member_left_alone_by_kills_says_so() {
    let case = case::begin("no leader, others killed");
    let mut cluster = Plan::of(3).start();
    let left = a_follower(&cluster);
    let watch = open_watch(&cluster, left);
    for place in others(left) {
        cluster.kill(place);
    }
    says_so(&case, &cluster, left, watch);
    refuses_members_at_once(&case, &cluster, left);
}

/// Nobody has to wait for what the connections of a member tell it: as an etcd, it refuses at once.
fn refuses_members_at_once(case: &Case, cluster: &Cluster, left: usize) {
    let address = cluster.server(left).address();
    let asked = Instant::now();
    let (added, removed) = cluster.runtime().block_on(async {
        let mut client = Client::connect(address).await;
        let members = client.cluster.member_list(MemberListRequest::default());
        let members = members.await.expect("it lists").into_inner().members;
        let other = members
            .iter()
            .find(|member| member.name != cluster.server(left).name());
        let added = client.cluster.member_add(MemberAddRequest {
            peer_ur_ls: vec!["http://127.0.0.1:1".into()],
            ..MemberAddRequest::default()
        });
        let added = added.await.expect_err("there is no quorum");
        let removed = client.cluster.member_remove(MemberRemoveRequest {
            id: other.expect("three members").id,
        });
        (added, removed.await.expect_err("there is no quorum"))
    });
    let took = asked.elapsed();
    case.saw(format!(
        "a member to add: {added}; to remove: {removed}; {took:.1?}"
    ));
    for status in [&added, &removed] {
        cluster.must(
            status.code() == Code::Unavailable
                && status.message() == "etcdserver: unhealthy cluster",
            || format!("{status}"),
        );
    }
    cluster.must(took < HEALTH_LIMIT, || format!("it took {took:?}"));
}

fn a_follower(cluster: &Cluster) -> usize {
    let leader = cluster.wait_for_leader(LEADER_LIMIT);
    (leader.place + 1) % 3
}

fn others(place: usize) -> impl Iterator<Item = usize> {
    (0..3).filter(move |other| *other != place)
}

fn says_so(case: &Case, cluster: &Cluster, left: usize, watch: Watch) {
    std::thread::sleep(TOLD_LIMIT);
    let asked = Instant::now();
    let status = cluster.status(left);
    let status_took = asked.elapsed();
    let metrics = cluster.server(left).metrics();
    let has_leader = metrics
        .lines()
        .find(|line| line.starts_with("etcd_server_has_leader "));
    let (health, health_took) = page(cluster, left, "/health");
    let (live, _) = page(cluster, left, "/livez");
    let (ready, _) = page(cluster, left, "/readyz");
    let ended = cluster.runtime().block_on(async {
        let limited = tokio::time::timeout(STREAM_LIMIT, watch);
        limited.await.map(|joined| joined.expect("no panic"))
    });
    let told = status
        .as_ref()
        .map(|status| (status.leader, status.errors.clone()));
    case.saw(format!(
        "status {told:x?} after {status_took:.1?}; {has_leader:?}; health {:?} after \
         {health_took:.1?}; a watch that wants a leader: {ended:?}",
        health.lines().next().unwrap_or_default()
    ));
    let Some((leader, errors)) = told else {
        cluster.fail("no status");
    };
    cluster.must(leader == 0, || format!("it tells of leader {leader:x}"));
    cluster.must(
        errors.iter().any(|error| error == "etcdserver: no leader"),
        || format!("{errors:?}"),
    );
    cluster.must(has_leader == Some("etcd_server_has_leader 0"), || {
        format!("{has_leader:?}")
    });
    cluster.must(health.starts_with("HTTP/1.1 503"), || health.clone());
    cluster.must(health_took < HEALTH_LIMIT, || {
        format!("/health took {health_took:?}")
    });
    cluster.must(live.starts_with("HTTP/1.1 200"), || live.clone());
    // In the words that etcd's own tests of a partition look for.
    let unready = "[-]linearizable_read failed: etcdserver: leader changed";
    let is_told = ready.starts_with("HTTP/1.1 503") && ready.contains(unready);
    cluster.must(is_told, || ready.clone());
    for line in ["serving /health false; no leader", "Health check error"] {
        let logged = cluster.server(left).output().contains(line);
        cluster.must(logged, || format!("{line:?} is not in the log"));
    }
    let Ok(Some(status)) = ended else {
        cluster.fail(&format!("the watch that wants a leader goes on: {ended:?}"));
    };
    cluster.must(
        status.code() == Code::Unavailable && status.message() == "etcdserver: no leader",
        || format!("{status}"),
    );
}

type Watch = tokio::task::JoinHandle<Option<Status>>;

/// A watch that wants a leader; its task ends as the stream does.
fn open_watch(cluster: &Cluster, place: usize) -> Watch {
    let address = cluster.server(place).address();
    cluster.runtime().spawn(async move {
        // Without a limit of its own for the call.
        let mut client = Client::connect(address).await;
        let create = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(
                WatchCreateRequest {
                    key: b"k".to_vec().into(),
                    ..WatchCreateRequest::default()
                },
            )),
        };
        let requests = tokio_stream::StreamExt::chain(
            tokio_stream::once(create),
            tokio_stream::pending::<WatchRequest>(),
        );
        let mut request = Request::new(requests);
        let wanted = "true".parse().expect("metadata");
        request.metadata_mut().insert("hasleader", wanted);
        let mut answers = match client.watch.watch(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return Some(status),
        };
        loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    })
}

/// What a page answers, and how long it takes.
fn page(cluster: &Cluster, place: usize, path: &str) -> (String, Duration) {
    let asked = Instant::now();
    let answer = TcpStream::connect(cluster.server(place).address()).and_then(|mut stream| {
        stream.set_read_timeout(Some(ELECTION_TIMEOUT * 20))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    let text = answer.unwrap_or_else(|error| format!("no answer: {error}"));
    (text, asked.elapsed())
}
