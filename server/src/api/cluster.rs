//! Members: who they are, and changing them.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;

use super::backend::{Backend, MemberChange};
use super::error::Refusal;
use super::{Edge, decode};
use crate::codec::{Frame, proto};
use crate::config::ListenUrl;
use crate::types::MemberId;

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

    pub(super) async fn member_add(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberAddRequest = decode(message)?;
        let peer_urls = wanted.peer_ur_ls;
        if peer_urls.is_empty() || peer_urls.iter().any(|url| ListenUrl::parse(url).is_err()) {
            return Err(Refusal::MEMBER_BAD_URLS);
        }
        let id = self.backend().choose_member_id(&peer_urls);
        let learner = wanted.is_learner;
        let change = MemberChange::Add {
            id,
            peer_urls,
            learner,
        };
        let members = self.backend().change_members(change).await?;
        let response = pb::MemberAddResponse {
            header: Some(self.header_without_revision()),
            member: members
                .iter()
                .find(|member| member.id == id)
                .map(proto::member),
            members: members.iter().map(proto::member).collect(),
        };
        Ok(Frame::from(&response))
    }

    pub(super) async fn member_remove(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberRemoveRequest = decode(message)?;
        let change = MemberChange::Remove {
            id: MemberId(wanted.id),
        };
        let response = pb::MemberRemoveResponse {
            members: self.changed(change).await?,
            header: Some(self.header_without_revision()),
        };
        Ok(Frame::from(&response))
    }

    pub(super) async fn member_update(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberUpdateRequest = decode(message)?;
        let peer_urls = wanted.peer_ur_ls;
        if peer_urls.is_empty() || peer_urls.iter().any(|url| ListenUrl::parse(url).is_err()) {
            return Err(Refusal::MEMBER_BAD_URLS);
        }
        let id = MemberId(wanted.id);
        let response = pb::MemberUpdateResponse {
            members: self.changed(MemberChange::Update { id, peer_urls }).await?,
            header: Some(self.header_without_revision()),
        };
        Ok(Frame::from(&response))
    }

    pub(super) async fn member_promote(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberPromoteRequest = decode(message)?;
        let change = MemberChange::Promote {
            id: MemberId(wanted.id),
        };
        let response = pb::MemberPromoteResponse {
            members: self.changed(change).await?,
            header: Some(self.header_without_revision()),
        };
        Ok(Frame::from(&response))
    }

    async fn changed(&self, change: MemberChange) -> Result<Vec<pb::Member>, Refusal> {
        let members = self.backend().change_members(change).await?;
        Ok(members.iter().map(proto::member).collect())
    }
}
