//! Members. Changing them is not part of this release: what etcd refuses is refused as etcd does
//! it, and what would need a change says so.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;

use super::backend::Backend;
use super::error::Refusal;
use super::{Edge, decode};
use crate::codec::{Frame, proto};
use crate::config::ListenUrl;
use crate::state::MemberRecord;
use crate::types::MemberId;

const SERVICE: &str = "etcdserverpb.Cluster";

impl<B: Backend> Edge<B> {
    pub(super) async fn member_list(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberListRequest = decode(message)?;
        if wanted.linearizable {
            self.backend().read_barrier().await?;
        }
        let members = self.backend().members();
        let response = pb::MemberListResponse {
            header: Some(self.header_without_revision()),
            members: members.iter().map(proto::member).collect(),
        };
        Ok(Frame::from(&response))
    }

    pub(super) fn member_add(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberAddRequest = decode(message)?;
        let urls = &wanted.peer_ur_ls;
        if urls.is_empty() || urls.iter().any(|url| ListenUrl::parse(url).is_err()) {
            return Err(Refusal::MEMBER_BAD_URLS);
        }
        if self
            .backend()
            .members()
            .iter()
            .any(|member| shares_url(member, urls))
        {
            return Err(Refusal::PEER_URL_EXISTS);
        }
        Err(Refusal::not_served(SERVICE, "MemberAdd"))
    }

    pub(super) fn member_remove(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberRemoveRequest = decode(message)?;
        let members = self.backend().members();
        let member = find(&members, wanted.id)?;
        let voters = members.iter().filter(|member| !member.learner).count();
        if !member.learner && voters == 1 {
            return Err(Refusal::MEMBER_NOT_ENOUGH_STARTED);
        }
        Err(Refusal::not_served(SERVICE, "MemberRemove"))
    }

    pub(super) fn member_update(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberUpdateRequest = decode(message)?;
        let members = self.backend().members();
        let member = find(&members, wanted.id)?;
        let mut others = members.iter().filter(|other| other.id != member.id);
        if others.any(|other| shares_url(other, &wanted.peer_ur_ls)) {
            return Err(Refusal::PEER_URL_EXISTS);
        }
        Err(Refusal::not_served(SERVICE, "MemberUpdate"))
    }

    pub(super) fn member_promote(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberPromoteRequest = decode(message)?;
        let members = self.backend().members();
        if !find(&members, wanted.id)?.learner {
            return Err(Refusal::MEMBER_NOT_LEARNER);
        }
        Err(Refusal::not_served(SERVICE, "MemberPromote"))
    }
}

fn find(members: &[MemberRecord], id: u64) -> Result<&MemberRecord, Refusal> {
    let found = members.iter().find(|member| member.id == MemberId(id));
    found.ok_or(Refusal::MEMBER_NOT_FOUND)
}

fn shares_url(member: &MemberRecord, urls: &[String]) -> bool {
    member.peer_urls.iter().any(|url| urls.contains(url))
}
