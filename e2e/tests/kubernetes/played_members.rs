//! Members that are played: one listener answers the operator for all of them, and tells them apart by the
//! address at which it is asked (all of 127/8 is this machine).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;

use engram_e2e::raw::framed;
use engram_proto::etcdserverpb::{
    AlarmResponse, Member as Listed, MemberListResponse, ResponseHeader, StatusResponse,
};
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};
use tonic_prost::prost::bytes::Bytes;

/// Where members serve clients.
const CLIENT_PORT: u16 = 2379;
/// Members of each cluster.
pub const MEMBERS: u8 = 3;
/// Clusters of one second byte of the address.
const ROW: u16 = 250;
/// The first of these bytes.
const FIRST: u16 = 100;

/// One member of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The cluster, from 0.
    pub cluster: u16,
    /// From 1.
    pub number: u8,
}

impl Member {
    /// Its address.
    pub fn address(self) -> Ipv4Addr {
        let byte = |number: u16| u8::try_from(number).expect("fewer clusters than that");
        let (row, column) = (self.cluster / ROW, self.cluster % ROW);
        Ipv4Addr::new(127, byte(FIRST + row), byte(column + 1), self.number)
    }

    fn at(address: IpAddr) -> Option<Self> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        let [_, row, column, number] = address.octets();
        let row = u16::from(row).checked_sub(FIRST)?;
        let cluster = row * ROW + u16::from(column).checked_sub(1)?;
        Some(Self { cluster, number })
    }

    /// Its cluster's name.
    pub fn cluster_name(self) -> String {
        format!("c{:03}", self.cluster)
    }

    /// The namespace: ten clusters have one together.
    pub fn namespace(self) -> String {
        format!("n{:02}", self.cluster / 10)
    }

    /// The name of its object and pod.
    pub fn name(self) -> String {
        format!("{}-{}", self.cluster_name(), self.number)
    }

    /// Its URL for the others.
    pub fn peer_url(self) -> String {
        let (name, cluster, namespace) = (self.name(), self.cluster_name(), self.namespace());
        format!("http://{name}.{cluster}-peers.{namespace}.svc:2380")
    }

    /// Its cluster's ID.
    pub fn cluster_id(self) -> u64 {
        0xc000 + u64::from(self.cluster)
    }

    /// Its own.
    pub fn id(self) -> u64 {
        self.cluster_id() * 16 + u64::from(self.number)
    }

    fn numbered(self, number: u8) -> Self {
        Self { number, ..self }
    }

    fn header(self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id(),
            member_id: self.id(),
            revision: 1000,
            raft_term: 2,
        }
    }

    /// What it answers: to what the operator asks of a cluster that is well.
    fn answer(self, path: &str) -> Option<Bytes> {
        let header = Some(self.header());
        Some(match path {
            "/etcdserverpb.Maintenance/Status" => framed(&StatusResponse {
                header,
                version: "3.7.0".to_owned(),
                db_size: 1 << 20,
                leader: self.numbered(1).id(),
                raft_index: 5000,
                raft_term: 2,
                raft_applied_index: 5000,
                ..StatusResponse::default()
            }),
            "/etcdserverpb.Cluster/MemberList" => framed(&MemberListResponse {
                header,
                members: (1..=MEMBERS)
                    .map(|number| self.numbered(number).listed())
                    .collect(),
            }),
            "/etcdserverpb.Maintenance/Alarm" => framed(&AlarmResponse {
                header,
                alarms: Vec::new(),
            }),
            _ => return None,
        })
    }

    fn listed(self) -> Listed {
        Listed {
            id: self.id(),
            name: self.name(),
            peer_ur_ls: vec![self.peer_url()],
            ..Listed::default()
        }
    }
}

/// Has all of them answer, until the process ends.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT_PORT));
    let listener = runtime
        .block_on(TcpListener::bind(any))
        .unwrap_or_else(|error| panic!("{any}, where members are played: {error}"));
    thread::spawn(move || runtime.block_on(accept(&listener)));
}

async fn accept(listener: &TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.expect("accept a connection");
        let asked = stream.local_addr().expect("its own address").ip();
        if let Some(member) = Member::at(asked) {
            // The operator ends it in its own way.
            tokio::spawn(async move { drop(connection(stream, member).await) });
        }
    }
}

async fn connection(stream: TcpStream, member: Member) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let head = Response::builder().header("content-type", "application/grpc");
        let head = head.body(()).expect("a head");
        let mut body = respond.send_response(head, false)?;
        let answer = member.answer(request.uri().path());
        let status = if answer.is_some() { "0" } else { "12" };
        if let Some(message) = answer {
            body.send_data(message, false)?;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        body.send_trailers(trailers)?;
    }
    Ok(())
}
