//! What the operator asks of members, in etcd's own API. Each call is bounded in time; none is
//! sent twice.

mod access;
mod connector;
mod maintenance;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};

pub use access::{Grant, Shown};
use connector::Connector;

/// Connecting and handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// A question.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// What a member could not do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EtcdError {
    /// It cannot be reached.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, String),
    /// It refused, or did not answer in time.
    #[error("{what}: {message}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its words.
        message: String,
    },
    /// The files for TLS are of no use.
    #[error("certificates: {0}")]
    Tls(String),
}

/// How to speak TLS with members: as a client of theirs.
#[derive(Clone)]
pub struct TlsClient(Arc<rustls::ClientConfig>);

impl TlsClient {
    /// From a Secret's `ca.crt`, `tls.crt` and `tls.key`.
    ///
    /// # Errors
    /// They are not certificates and a key that fit.
    pub fn new(files: &crate::pki::Files) -> Result<Self, EtcdError> {
        connector::client_config(files).map(|config| Self(Arc::new(config)))
    }
}

/// A connection to one member.
#[derive(Clone)]
pub struct MemberClient {
    channel: Channel,
    /// Who calls, where that is not said by a certificate.
    token: Option<AsciiMetadataValue>,
}

/// A member's own account of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The cluster's id.
    pub cluster_id: u64,
    /// Its id.
    pub member_id: u64,
    /// Whom it takes for the leader; 0: nobody.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// The version it runs.
    pub version: String,
    /// The revision that it has applied.
    pub revision: i64,
    /// The size of its data.
    pub db_size: i64,
    /// How large it may grow.
    pub db_quota: i64,
    /// The index that it has applied.
    pub applied: u64,
}

/// A member as the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: u64,
    /// Its first URL for the others.
    pub peer_url: String,
    /// Whether it does not vote yet.
    pub learner: bool,
}

/// What a cluster says to whom it does not know, or who may not.
const DENIALS: [&str; 3] = ["permission denied", "user name", "invalid auth token"];

impl EtcdError {
    /// Whether it was refused for who asked.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Refused { message, .. } => DENIALS.iter().any(|words| message.contains(words)),
            Self::Connect(..) | Self::Tls(_) => false,
        }
    }
}

fn refused(what: &'static str) -> impl Fn(tonic::Status) -> EtcdError {
    move |status| EtcdError::Refused {
        what,
        message: status.message().to_owned(),
    }
}

impl MemberClient {
    /// Connects to a member. With TLS its certificate has to be good for `host`.
    ///
    /// # Errors
    /// It cannot be reached, or does not prove who it is.
    pub async fn connect(
        address: SocketAddr,
        host: &str,
        tls: Option<&TlsClient>,
    ) -> Result<Self, EtcdError> {
        let failed = |error: String| EtcdError::Connect(address, error);
        let connector = Connector::new(address, host, tls.map(|tls| tls.0.clone()));
        let connector = connector.map_err(failed)?;
        let uri = format!("http://{host}:{}", address.port());
        let endpoint = Endpoint::from_shared(uri).map_err(|error| failed(error.to_string()))?;
        let connecting = endpoint.connect_with_connector(connector);
        let channel = match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(failed(chain(&error))),
            Err(_) => return Err(failed("no answer in time".into())),
        };
        Ok(Self {
            channel,
            token: None,
        })
    }

    fn timed<T>(&self, message: T, limit: Duration) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(limit);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn status(&self) -> Result<Status, EtcdError> {
        let request = self.timed(pb::StatusRequest::default(), CALL_LIMIT);
        let answer = self
            .maintenance()
            .status(request)
            .await
            .map_err(refused("status"))?;
        let answer = answer.into_inner();
        let header = answer.header.unwrap_or_default();
        Ok(Status {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            leader: answer.leader,
            term: answer.raft_term,
            version: answer.version,
            revision: header.revision,
            db_size: answer.db_size,
            db_quota: answer.db_size_quota,
            applied: answer.raft_applied_index,
        })
    }

    /// The cluster's list, read linearizably: what a quorum knows.
    ///
    /// # Errors
    /// No quorum answered.
    pub async fn members(&self) -> Result<Vec<Listed>, EtcdError> {
        let request = self.timed(pb::MemberListRequest { linearizable: true }, CALL_LIMIT);
        let answer = self
            .cluster()
            .member_list(request)
            .await
            .map_err(refused("member list"))?;
        let listed = |member: pb::Member| Listed {
            id: member.id,
            peer_url: member.peer_ur_ls.into_iter().next().unwrap_or_default(),
            learner: member.is_learner,
        };
        Ok(answer
            .into_inner()
            .members
            .into_iter()
            .map(listed)
            .collect())
    }

    /// Has a learner listed.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn add_learner(&self, peer_url: &str) -> Result<(), EtcdError> {
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let request = self.timed(request, CALL_LIMIT);
        self.cluster()
            .member_add(request)
            .await
            .map_err(refused("member add"))
            .map(drop)
    }

    /// Lets a learner vote.
    ///
    /// # Errors
    /// It has not caught up, or the cluster refused.
    pub async fn promote(&self, id: u64) -> Result<(), EtcdError> {
        let request = self.timed(pb::MemberPromoteRequest { id }, CALL_LIMIT);
        self.cluster()
            .member_promote(request)
            .await
            .map_err(refused("member promote"))
            .map(drop)
    }

    /// Takes a member out.
    ///
    /// # Errors
    /// The cluster refused.
    pub async fn remove(&self, id: u64) -> Result<(), EtcdError> {
        let request = self.timed(pb::MemberRemoveRequest { id }, CALL_LIMIT);
        self.cluster()
            .member_remove(request)
            .await
            .map_err(refused("member remove"))
            .map(drop)
    }

    /// Has another member lead. This has to be the leader.
    ///
    /// # Errors
    /// It does not lead, or the other one did not take over.
    pub async fn move_leader(&self, to: u64) -> Result<(), EtcdError> {
        let request = self.timed(pb::MoveLeaderRequest { target_id: to }, CALL_LIMIT);
        self.maintenance()
            .move_leader(request)
            .await
            .map_err(refused("move leader"))
            .map(drop)
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
