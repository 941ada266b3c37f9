//! Members that are played: one cluster's list, leader and alarms, and at an address of its own whoever runs, which
//! answers what the operator asks of members in etcd's API.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engram_proto::etcdserverpb as pb;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;

use crate::desired::CLIENT_PORT;

/// The cluster's ID.
pub const CLUSTER_ID: u64 = 7;
/// etcd's number for CORRUPT.
const CORRUPT: i32 = 2;
/// gRPC's numbers for what is not served, and for who cannot answer now.
const UNIMPLEMENTED: u16 = 12;
const UNAVAILABLE: u16 = 14;

/// The members. Clones share them.
#[derive(Clone, Default)]
pub struct Members(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listed: Vec<pb::Member>,
    alarms: Vec<pb::AlarmMember>,
    leader: u64,
    last_id: u64,
    /// Who answers for another cluster.
    foreign: Option<u64>,
    /// Who takes calls and never answers.
    hanging: Option<u64>,
}

/// The next address that was not given to anybody in this process: each member has one, for its port is given.
fn next_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // Other processes test at the same time.
    let own = u8::try_from(std::process::id() % 200).unwrap_or_default() + 20;
    Ipv4Addr::new(127, own, high, low)
}

impl Members {
    /// These vote, and the first one leads.
    pub fn of(names: &[&str]) -> Self {
        let members = Self::default();
        for name in names {
            members.state().add(&url(name), false);
        }
        members.state().leader = 1;
        members
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who votes, and who learns, by name.
    pub fn listed(&self) -> (Vec<String>, Vec<String>) {
        let state = self.state();
        let (learners, voters): (Vec<_>, Vec<_>) =
            state.listed.iter().partition(|one| one.is_learner);
        let names = |all: Vec<&pb::Member>| all.into_iter().map(name).collect();
        (names(voters), names(learners))
    }

    /// Has a member's data differ from the others'.
    pub fn corrupt(&self, member: &str) {
        let mut state = self.state();
        let id = state.id_of(member);
        state.alarms.push(pb::AlarmMember {
            member_id: id,
            alarm: CORRUPT,
        });
    }

    /// Makes a voter one that learns: as if it had just joined.
    pub fn unvote(&self, member: &str) {
        let mut state = self.state();
        let id = state.id_of(member);
        let found = state.listed.iter_mut().find(|one| one.id == id);
        found.expect("it is listed").is_learner = true;
    }

    /// Has another cluster answer at a member's address.
    pub fn another_cluster_answers(&self, member: &str) {
        let mut state = self.state();
        state.foreign = Some(state.id_of(member));
    }

    /// Has a member take calls and never answer.
    pub fn hangs(&self, member: &str) {
        let mut state = self.state();
        state.hanging = Some(state.id_of(member));
    }

    /// Has nobody lead, and no list be given: there is no quorum.
    pub fn lose_quorum(&self) {
        self.state().leader = 0;
    }

    /// Where nobody answers.
    pub fn nowhere() -> IpAddr {
        for _ in 0..u16::MAX {
            let address = IpAddr::from(next_address());
            // Somebody else's tests may have a member there.
            if std::net::TcpListener::bind((address, CLIENT_PORT)).is_ok() {
                return address;
            }
        }
        panic!("somebody listens at port {CLIENT_PORT} of all of this machine's own addresses");
    }

    /// Starts a member, and returns where it answers. The first one of all founds the cluster.
    pub async fn run(&self, member: &str) -> IpAddr {
        self.found(member);
        for _ in 0..u16::MAX {
            let address = IpAddr::from(next_address());
            let bound = TcpListener::bind(SocketAddr::new(address, CLIENT_PORT)).await;
            // Somebody else's.
            let Ok(listener) = bound else { continue };
            let id = self.state().id_of(member);
            tokio::spawn(serve(listener, self.clone(), id));
            return address;
        }
        panic!("no address of this machine's own is free at port {CLIENT_PORT}");
    }

    fn found(&self, member: &str) {
        let mut state = self.state();
        if state.listed.is_empty() {
            state.add(&url(member), false);
            state.leader = state.last_id;
        }
    }

    /// What a member answers.
    fn answer(&self, id: u64, path: &str, asked: &[u8]) -> Result<Vec<u8>, u16> {
        let mut state = self.state();
        let no_quorum = state.leader == 0;
        match path {
            "/etcdserverpb.Maintenance/Status" => Ok(state.status(id).encode_to_vec()),
            "/etcdserverpb.Maintenance/Alarm" => {
                let alarms = state.alarms.clone();
                let header = None;
                Ok(pb::AlarmResponse { header, alarms }.encode_to_vec())
            }
            _ if no_quorum => Err(UNAVAILABLE),
            "/etcdserverpb.Cluster/MemberList" => {
                let members = state.listed.clone();
                let header = None;
                Ok(pb::MemberListResponse { header, members }.encode_to_vec())
            }
            "/etcdserverpb.Cluster/MemberAdd" => {
                let asked = pb::MemberAddRequest::decode(asked).expect("a request");
                state.add(&asked.peer_ur_ls[0], asked.is_learner);
                Ok(pb::MemberAddResponse::default().encode_to_vec())
            }
            "/etcdserverpb.Cluster/MemberPromote" => {
                let asked = pb::MemberPromoteRequest::decode(asked).expect("a request");
                let found = state.listed.iter_mut().find(|one| one.id == asked.id);
                found.expect("it is listed").is_learner = false;
                Ok(pb::MemberPromoteResponse::default().encode_to_vec())
            }
            "/etcdserverpb.Cluster/MemberRemove" => {
                let asked = pb::MemberRemoveRequest::decode(asked).expect("a request");
                state.listed.retain(|one| one.id != asked.id);
                // With the member goes its alarm.
                state.alarms.retain(|one| one.member_id != asked.id);
                Ok(pb::MemberRemoveResponse::default().encode_to_vec())
            }
            "/etcdserverpb.Maintenance/MoveLeader" => {
                let asked = pb::MoveLeaderRequest::decode(asked).expect("a request");
                state.leader = asked.target_id;
                Ok(pb::MoveLeaderResponse::default().encode_to_vec())
            }
            _ => Err(UNIMPLEMENTED),
        }
    }
}

impl State {
    fn add(&mut self, url: &str, is_learner: bool) {
        self.last_id += 1;
        self.listed.push(pb::Member {
            id: self.last_id,
            peer_ur_ls: vec![url.to_owned()],
            is_learner,
            ..pb::Member::default()
        });
    }

    fn id_of(&self, member: &str) -> u64 {
        let found = self.listed.iter().find(|one| name(one) == member);
        found.unwrap_or_else(|| panic!("{member} is not listed")).id
    }

    fn status(&self, id: u64) -> pb::StatusResponse {
        let is_foreign = self.foreign == Some(id);
        let header = pb::ResponseHeader {
            cluster_id: if is_foreign { 9 } else { CLUSTER_ID },
            member_id: id,
            revision: 1,
            raft_term: 2,
        };
        pb::StatusResponse {
            header: Some(header),
            version: "3.7.0".into(),
            leader: self.leader,
            raft_term: 2,
            raft_index: 100,
            raft_applied_index: 100,
            ..pb::StatusResponse::default()
        }
    }
}

/// A member's URL for the others, as the operator makes it for the cluster `demo` without TLS.
fn url(member: &str) -> String {
    format!("http://{member}.demo-peers.data.svc:2380")
}

fn name(member: &pb::Member) -> String {
    let url = member.peer_ur_ls[0].as_str();
    let host = url.split("://").nth(1).unwrap_or_default();
    host.split('.').next().unwrap_or_default().to_owned()
}

async fn serve(listener: TcpListener, members: Members, id: u64) {
    while let Ok((stream, _)) = listener.accept().await {
        let members = members.clone();
        let service = service_fn(move |request| respond(members.clone(), id, request));
        let builder = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
    }
}

/// One call of gRPC: a message with five bytes before it, and in the end how it went.
async fn respond(
    members: Members,
    id: u64,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let asked = request.into_body().collect().await;
    let asked = asked.expect("a whole request").to_bytes();
    let hangs = members.state().hanging == Some(id);
    if hangs {
        std::future::pending::<()>().await;
    }
    let answer = members.answer(id, &path, &asked[5..]);
    let mut frame = Vec::new();
    if let Ok(message) = &answer {
        let length = u32::try_from(message.len()).expect("a short answer");
        frame.push(0);
        frame.extend(length.to_be_bytes());
        frame.extend(message);
    }
    let code = HeaderValue::from(answer.err().unwrap_or_default());
    let ended =
        HeaderMap::from_iter([(hyper::header::HeaderName::from_static("grpc-status"), code)]);
    let body = Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(ended)) });
    let response = Response::builder().header(CONTENT_TYPE, "application/grpc");
    Ok(response.body(body).expect("an answer"))
}
