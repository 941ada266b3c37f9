//! Members: who they are, and changing them.

use std::collections::BTreeSet;

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;

use super::backend::{Backend, MemberChange};
use super::error::Refusal;
use super::{Edge, decode};
use crate::codec::{Frame, proto};
use crate::config::{ListenUrl, UrlError};
use crate::types::MemberId;

/// URLs that a member may have.
const PEER_URLS_MAX: usize = 100;

impl<B: Backend> Edge<B> {
    pub(super) async fn member_list(&self, message: Bytes) -> Result<Frame, Refusal> {
        let wanted: pb::MemberListRequest = decode(message)?;
        if wanted.linearizable {
            self.backend().table_barrier().await?;
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
        let peer_urls = peer_urls(&wanted.peer_ur_ls)?;
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
        let id = MemberId(wanted.id);
        let peer_urls = match peer_urls(&wanted.peer_ur_ls) {
            Ok(urls) => urls,
            // etcd looks for the member first.
            Err(_)
                if !self
                    .backend()
                    .members()
                    .iter()
                    .any(|member| member.id == id) =>
            {
                return Err(Refusal::MEMBER_NOT_FOUND);
            }
            Err(refusal) => return Err(refusal),
        };
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

/// The URLs as they are stored and compared: trimmed, in one spelling, sorted, each once.
fn peer_urls(texts: &[String]) -> Result<Vec<String>, Refusal> {
    let urls = texts
        .iter()
        .take(PEER_URLS_MAX + 1)
        .map(|text| ListenUrl::parse(text));
    let urls: Result<BTreeSet<String>, _> = urls.map(|url| Ok(url?.to_string())).collect();
    let urls = urls.map_err(|_: UrlError| Refusal::MEMBER_BAD_URLS)?;
    if urls.is_empty() || texts.len() > PEER_URLS_MAX {
        return Err(Refusal::MEMBER_BAD_URLS);
    }
    Ok(urls.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_have_one_spelling_and_order() {
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let given = texts(&[" http://b:1", "HTTP://a:02 ", "http://b:1"]);
        assert_eq!(peer_urls(&given).unwrap(), ["http://a:2", "http://b:1"]);
        for bad in [
            &[][..],
            &[""],
            &["http://a:1", "a:1"],
            &["http://a"],
            &["http://a:1/x"],
        ] {
            assert_eq!(
                peer_urls(&texts(bad)),
                Err(Refusal::MEMBER_BAD_URLS),
                "{bad:?}"
            );
        }
    }
}
