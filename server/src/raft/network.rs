//! The network to peers. A member of a cluster of one has none: every peer is unreachable, which is
//! also what pre-vote must hear (openraft's default would grant).

use std::future::Future;
use std::io;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{AnyError, OptionalSend};

use super::{Peer, SnapshotData, TypeConfig, Vote};

/// Makes connections to peers.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

/// A connection to a peer that cannot be.
#[derive(Clone, Copy, Debug)]
pub struct Nobody {
    target: u64,
}

impl Nobody {
    fn unreachable(self) -> Unreachable<TypeConfig> {
        let error = io::Error::other(format!(
            "member {:x} is not a peer of this one",
            self.target
        ));
        Unreachable::new(&AnyError::new(&error))
    }
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = Nobody;

    async fn new_client(&mut self, target: u64, _node: &Peer) -> Nobody {
        Nobody { target }
    }
}

impl RaftNetworkV2<TypeConfig> for Nobody {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}
