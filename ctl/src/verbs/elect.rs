//! `elect`: campaigns, or observes who is elected.

use std::os::unix::ffi::OsStringExt as _;

use election::election_client::ElectionClient;
use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::v3electionpb as election;

use super::kv::{self, Text, show_range};
use super::session::{Session, Signals};
use crate::cli::{Elect, Global};
use crate::connect::{any, within};
use crate::failure::Failure;

/// Seconds that a candidate's session lives: etcd's own.
const TTL_SECONDS: i64 = 60;

/// `elect`.
pub async fn elect(global: &Global, elect: Elect) -> Result<(), Failure> {
    match (elect.proposal, elect.listen) {
        (None, false) => Err(Failure::arguments("no proposal argument but -l not set")),
        (Some(_), true) => Err(Failure::arguments("proposal given but -l is set")),
        (None, true) => observe(global, &elect.name).await,
        (Some(proposal), false) => campaign(global, &elect.name, proposal.into_vec()).await,
    }
}

async fn observe(global: &Global, name: &str) -> Result<(), Failure> {
    let mut signals = Signals::caught()?;
    let mut client = ElectionClient::new(any(global).await?.channel)
        .max_decoding_message_size(global.answer_bytes_max());
    let request = election::LeaderRequest {
        name: name.as_bytes().to_vec().into(),
    };
    let mut leaders = client.observe(request).await?.into_inner();
    loop {
        let leader = tokio::select! {
            leader = leaders.message() => leader?,
            () = signals.next() => return Ok(()),
        };
        let Some(leader) = leader else {
            return Err(Failure::new("elect: observer lost"));
        };
        let answer = pb::RangeResponse {
            header: leader.header,
            kvs: leader.kv.into_iter().collect(),
            ..pb::RangeResponse::default()
        };
        show_range(global, &answer, || Text::of(global).range(&answer, false))?;
    }
}

async fn campaign(global: &Global, name: &str, proposal: Vec<u8>) -> Result<(), Failure> {
    let mut signals = Signals::caught()?;
    let channel = any(global).await?.channel;
    let session = Session::begin(global, channel.clone(), TTL_SECONDS).await?;
    let mut client = ElectionClient::new(channel.clone());
    let request = election::CampaignRequest {
        name: name.as_bytes().to_vec().into(),
        lease: session.lease(),
        value: proposal.into(),
    };
    let elected = tokio::select! {
        answer = client.campaign(request) => answer?.into_inner(),
        () = session.lost(global) => return Err(Failure::new("elect: session expired")),
        () = signals.next() => {
            let id = session.lease();
            let mut leases = pb::lease_client::LeaseClient::new(channel);
            within(global, leases.lease_revoke(pb::LeaseRevokeRequest { id })).await?;
            return Err(Failure::new("context canceled"));
        }
    };
    let leader = elected.leader.unwrap_or_default();
    let answer = key(global, channel, &leader).await?;
    show_range(global, &answer, || Text::of(global).range(&answer, false))?;
    tokio::select! {
        () = signals.next() => {
            let request = election::ResignRequest { leader: Some(leader) };
            within(global, client.resign(request)).await?;
            Ok(())
        }
        () = session.lost(global) => Err(Failure::new("elect: session expired")),
    }
}

async fn key(
    global: &Global,
    channel: Channel,
    leader: &election::LeaderKey,
) -> Result<pb::RangeResponse, Failure> {
    let request = pb::RangeRequest {
        key: leader.key.clone(),
        ..pb::RangeRequest::default()
    };
    let mut client = kv::client(global, channel);
    Ok(within(global, client.range(request)).await?.into_inner())
}
