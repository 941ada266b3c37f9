//! How a member begins: consensus over its log and store, the roads to its peers, and its duties. All of it
//! lives on the runtime that it is begun on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Receiver;

use crate::config::cluster_version;
use crate::net::{PeerAddress, PeerInfo};
use crate::node::boot::BootError;
use crate::node::counted_dial::CountedDial;
use crate::node::door::Door;
use crate::node::duties::Duties;
use crate::node::identity::FirstMember;
use crate::node::late::Lateness;
use crate::node::membership::{Membership, Rules};
use crate::node::parts::{Arrivals, Parts, Roads, Routine};
use crate::node::peer_service::PeerService;
use crate::node::peers::PeerCalls;
use crate::node::reclaim::Reclaimer;
use crate::node::route::LeaderRoute;
use crate::node::serve::PeerListener;
use crate::peer::{self, Clients};
use crate::raft::{ApplyThread, Consensus, ConsensusOptions, Peers};
use crate::threads;
use crate::types::request::MemberAttributes;

/// How long a member that was alone when it stopped may take to replay its log and lead again.
const LEAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a start waits for the cluster to know this member, and for what was committed while it
/// was away, before clients are served anyway.
/// Source: etcd's `--experimental-wait-cluster-ready-timeout`.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a member begins with.
pub struct Beginning {
    pub parts: Parts,
    pub consensus: ConsensusOptions,
    pub first_members: Vec<FirstMember>,
    pub roads: Roads,
    pub rules: Rules,
    pub request_timeout: Duration,
    pub attributes: MemberAttributes,
    pub routine: Routine,
}

/// What the rest of the member gets of what was begun.
pub type Begun = (Door, Membership);

impl Beginning {
    /// Starts everything that lives on this thread.
    pub async fn begin(
        mut self,
        apply: &ApplyThread,
        stopping: &Receiver<bool>,
    ) -> Result<Duties, BootError> {
        let dial = Arc::new(CountedDial {
            dial: self.roads.dial.clone(),
            store: self.parts.store.clone(),
            metrics: self.parts.log.metrics().clone(),
        });
        let clients = Clients::new(self.roads.directory.clone(), dial, self.roads.limits);
        let network = Peers::new(
            clients.clone(),
            self.parts.local.member,
            self.parts.log.metrics().clone(),
        );
        let (log, store) = (self.parts.log.clone(), self.parts.store.clone());
        let is_new = log.is_pristine();
        let consensus = Consensus::start(&self.consensus, log, store, apply, network).await?;
        if is_new && !self.first_members.is_empty() {
            let members = self.first_members.iter().cloned().collect();
            consensus.initialize(members).await?;
        }
        let duties = self.duties(consensus.clone(), clients);
        let listeners = std::mem::take(&mut self.roads.listeners);
        let arrivals = self.roads.arrivals.take();
        self.serve_peers(listeners, arrivals, &duties, stopping)?;
        if consensus.is_sole_voter() {
            consensus.lead(LEAD_TIMEOUT).await?;
        }
        duties.observe().await;
        duties.spawn_tasks(LeaderRoute {
            leadership: self.parts.leadership.clone(),
            consensus,
            peers: duties.door.peers.clone(),
            limit: self.request_timeout,
        });
        let mut expelled = self.roads.directory.expelled();
        let joining = async {
            duties.publish().await;
            duties.catch_up().await;
        };
        let joined = tokio::time::timeout(READY_TIMEOUT, async {
            tokio::select! {
                biased;
                // Who is no member any more waits for nobody: the rest of the start ends here.
                _ = expelled.wait_for(Option::is_some) => {}
                () = joining => {}
            }
        });
        if joined.await.is_err() {
            crate::log!(
                warn,
                "no leader has told this member what is committed: serving what is here all the same",
                waited = READY_TIMEOUT
            );
            let duties = duties.clone();
            tokio::spawn(async move { duties.publish().await });
        }
        if self.routine.checks.at_start {
            self.compare_at_start(&duties).await?;
        }
        Ok(duties)
    }

    async fn compare_at_start(&self, duties: &Duties) -> Result<(), BootError> {
        let local = self.parts.local.member;
        crate::log!(info, "starting initial corruption check", "local-member-id" = %local,
            timeout = self.request_timeout);
        if duties.comparison().compare().await.suspects(local) {
            return Err(BootError::Inconsistent(local));
        }
        crate::log!(info, "initial corruption checking passed; no corruption",
            "local-member-id" = %local);
        Ok(())
    }

    fn duties(&self, consensus: Consensus, clients: Clients) -> Duties {
        let peers = PeerCalls::new(
            clients,
            self.parts.store.clone(),
            self.parts.log.metrics().clone(),
        );
        let membership = Membership::new(
            self.parts.local.member,
            self.parts.store.clone(),
            self.parts.leadership.clone(),
            peers.clone(),
            self.rules,
            self.parts.log.metrics().clone(),
        );
        Duties {
            parts: self.parts.clone(),
            attributes: self.attributes.clone(),
            cluster_version: cluster_version(),
            election_timeout: self.consensus.election_timeout,
            routine: self.routine.clone(),
            membership,
            reclaimer: Reclaimer::new(self.parts.store.clone()),
            directory: self.roads.directory.clone(),
            looks_from: tokio::time::Instant::now(),
            lateness: Lateness::new(
                self.parts.local.member,
                self.parts.leadership.clone(),
                self.consensus.election_timeout,
                peers.clone(),
            ),
            door: Door::of_this_thread(consensus, peers),
        }
    }

    fn serve_peers(
        &self,
        listeners: Vec<PeerListener>,
        arrivals: Option<Arrivals>,
        duties: &Duties,
        stopping: &Receiver<bool>,
    ) -> Result<(), BootError> {
        let service = PeerService {
            local: self.parts.local,
            consensus: duties.door.consensus.clone(),
            store: self.parts.store.clone(),
            leadership: self.parts.leadership.clone(),
            lessor: self.parts.lessor.clone(),
            barrier: self.parts.barrier.clone(),
            membership: duties.membership.clone(),
            metrics: self.parts.log.metrics().clone(),
            incoming: self.roads.incoming.clone(),
        };
        let server = peer::Server::new(
            Arc::new(service),
            self.roads.directory.clone(),
            self.roads.limits,
        );
        for bound in listeners {
            let listener = bound.socket.into_listener();
            let listener = listener.map_err(|source| BootError::System {
                what: "listening to peers".into(),
                source,
            })?;
            crate::log!(info, "serving peer traffic", address = %bound.url);
            let serving = peer::serve(listener, bound.security, server.clone(), stopping.clone());
            tokio::spawn(serving);
        }
        if let Some(arrivals) = arrivals {
            tokio::spawn(serve_arrivals(arrivals, server, stopping.clone()));
        }
        Ok(())
    }
}

/// Serves the connections that come another way than by a listener.
async fn serve_arrivals(
    mut arrivals: Arrivals,
    server: peer::Server<PeerService>,
    stopping: Receiver<bool>,
) {
    while let Some(io) = arrivals.recv().await {
        let (server, stop) = (server.clone(), stopping.clone());
        let info = PeerInfo::new(PeerAddress::Unix, None, false, None);
        tokio::spawn(threads::ForCaller::new(async move {
            server.serve_connection(io, info, stop).await;
        }));
    }
}
