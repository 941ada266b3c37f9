//! A directory and a handler to test against.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::{Semaphore, watch};

use crate::fixture::{Book, listen};
use crate::message::{self, AppendRequest, AppendResponse, append_response};
use crate::net::Security;
use crate::types::{LeaseId, MemberId, Revision};
use crate::{
    CallError, Client, Clients, Declined, Limits, PeerHandler, PlainTcp, Server, Standing, serve,
};

/// The member that is served.
pub const SERVED: MemberId = MemberId(0xa);
/// The member that calls.
pub const CALLER: MemberId = MemberId(0xb);

/// A handler that answers something to everything. Appends are answered when permits are there.
pub struct Echo {
    pub permits: Arc<Semaphore>,
    pub received: Arc<AtomicUsize>,
    pub batch_bytes: AtomicU64,
}

impl Default for Echo {
    fn default() -> Echo {
        Echo {
            permits: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            received: Arc::default(),
            batch_bytes: AtomicU64::new(0),
        }
    }
}

impl PeerHandler for Echo {
    fn append(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, AppendResponse> {
        let (permits, received) = (self.permits.clone(), self.received.clone());
        let answer = move |request: AppendRequest| {
            received.fetch_add(1, Ordering::SeqCst);
            let permits = permits.clone();
            async move {
                let permit = permits.acquire_owned().await;
                permit.expect("the semaphore is open").forget();
                let last = request.prev;
                let matched = append_response::Result::Matched(message::Matched { last });
                AppendResponse {
                    result: Some(matched),
                    short_of_room: false,
                }
            }
        };
        // As openraft's receiving side: it reads ahead of what it answers.
        requests.map(answer).buffered(1024).boxed()
    }

    fn promised(&self) -> message::PromisedResponse {
        let term = self.received.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        let vote = engram_proto::raft::Vote {
            term,
            ..engram_proto::raft::Vote::default()
        };
        message::PromisedResponse { vote: Some(vote) }
    }

    async fn vote(&self, request: message::VoteRequest) -> Result<message::VoteResponse, Declined> {
        Ok(message::VoteResponse {
            vote: request.vote,
            granted: request.pre_vote,
            last: request.last,
        })
    }

    async fn install_snapshot(
        &self,
        _: BoxStream<'static, Result<message::SnapshotPart, CallError>>,
    ) -> Result<message::SnapshotAnswer, Declined> {
        Err(Declined::Busy)
    }

    async fn transfer_leader(
        &self,
        _: message::TransferLeaderRequest,
    ) -> Result<message::TransferLeaderResponse, Declined> {
        Err(Declined::Stopped)
    }

    async fn propose(&self, batch: Bytes) -> Result<(), Declined> {
        self.batch_bytes.store(batch.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    async fn read_index(&self) -> Result<u64, Declined> {
        Ok(7)
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64, Declined> {
        if id == LeaseId::NONE {
            return Err(Declined::LeaseNotFound);
        }
        Ok(id.0)
    }

    async fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> Result<message::LeaseTimeToLiveResponse, Declined> {
        let keys = keys.then(|| Bytes::from_static(b"key"));
        Ok(message::LeaseTimeToLiveResponse {
            ttl: id.0,
            granted_ttl: id.0 + 1,
            keys: keys.into_iter().collect(),
        })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Declined> {
        Ok(vec![LeaseId(1), LeaseId(2)])
    }

    async fn hash_kv(&self, revision: Revision) -> Result<message::HashKvResponse, Declined> {
        Ok(message::HashKvResponse {
            hash: 1,
            revision: revision.0,
            compact_revision: -1,
        })
    }

    fn members(&self) -> message::MembersResponse {
        let member = |id: MemberId, name: &str, learner| message::Member {
            id: id.0,
            name: name.into(),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: Vec::new(),
            learner,
            incarnation: 0,
            apply_version: 0,
        };
        message::MembersResponse {
            cluster: 0xc,
            answered_by: SERVED.0,
            leader: 0,
            members: vec![member(SERVED, "a", false), member(CALLER, "", true)],
            removed: Vec::new(),
            unix_ms: 0,
            apply_version: 0,
        }
    }

    async fn change_members(
        &self,
        _: message::ChangeMembersRequest,
    ) -> Result<Vec<message::Member>, Declined> {
        Err(Declined::TooManyLearners)
    }

    async fn move_leader(&self, _: MemberId) -> Result<(), Declined> {
        Err(Declined::BadTransferee)
    }

    fn versions(&self) -> (Option<String>, Option<String>) {
        (Some("3.7.0".into()), None)
    }

    fn is_downgrading(&self) -> bool {
        true
    }
}

/// A served member and one that calls it. They know each other, unless a test changes that.
pub struct Pair {
    pub url: String,
    pub handler: Arc<Echo>,
    /// The served member's directory, and the caller's.
    pub served: Arc<Book>,
    pub caller: Arc<Book>,
    pub clients: Clients,
    pub stop: watch::Sender<bool>,
}

impl Pair {
    pub async fn start() -> Pair {
        Pair::with_limits(Limits::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Pair {
        let (listener, url) = listen().await;
        let (served, caller) = (Book::of(SERVED), Book::of(CALLER));
        for book in [&served, &caller] {
            for member in [SERVED, CALLER] {
                let incarnation = member.0 * 10;
                book.record(member, Standing::Member { incarnation });
            }
        }
        let handler = Arc::new(Echo::default());
        let (stop, stopping) = watch::channel(false);
        let server = Server::new(handler.clone(), served.clone(), limits);
        tokio::spawn(serve(listener.into(), Security::Plain, server, stopping));
        let clients = Clients::new(caller.clone(), Arc::new(PlainTcp), limits);
        Pair {
            url,
            handler,
            served,
            caller,
            clients,
            stop,
        }
    }

    pub fn client(&self) -> Client {
        self.clients.member(SERVED, std::slice::from_ref(&self.url))
    }
}
