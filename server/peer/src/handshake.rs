//! Who speaks to whom: told in every call's metadata, checked before its first message is read.
//!
//! A cluster's members must not be confused with another cluster's on a reused address, a removed
//! member must not come back, and a member whose data directory was wiped must not vote again under
//! its old id (it has forgotten whom it voted for): the incarnation tells it from the old one.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Directory, Local, Standing};
use crate::types::{ClusterId, MemberId};

/// The version of the protocol. Another one is refused.
pub const PROTOCOL: u32 = 1;

const PROTOCOL_KEY: HeaderName = HeaderName::from_static("engram-protocol");
const CLUSTER_KEY: HeaderName = HeaderName::from_static("engram-cluster");
const FROM_KEY: HeaderName = HeaderName::from_static("engram-from");
const FROM_INCARNATION_KEY: HeaderName = HeaderName::from_static("engram-from-incarnation");
const TO_KEY: HeaderName = HeaderName::from_static("engram-to");
const TO_INCARNATION_KEY: HeaderName = HeaderName::from_static("engram-to-incarnation");
const LISTENS_KEY: HeaderName = HeaderName::from_static("engram-listens");

/// The most bytes of URLs that a member tells of itself, and that are listened to.
const LISTENS_MAX: usize = 1024;

/// Why a member does not listen to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender speaks another version of the protocol.
    #[error("the members speak different versions of the peer protocol: run the same release")]
    UnknownProtocol,
    /// The call does not say who speaks to whom, or not in a way that can be understood.
    #[error("the call does not say who speaks to whom")]
    Unidentified,
    /// The sender is of another cluster.
    #[error("the members are of different clusters: correct the peer URLs")]
    OtherCluster,
    /// The sender meant another member.
    #[error("another member answers at this address: correct the peer URLs")]
    OtherTarget,
    /// The sender meant the one that had this id before its data directory was wiped.
    #[error(
        "this member's data directory is not the one the cluster knows: remove the member and add \
         it anew"
    )]
    TargetReplaced,
    /// The sender was removed from the cluster.
    #[error("the member has been permanently removed from the cluster")]
    SenderRemoved,
    /// The sender is not the one the member table knows under its id.
    #[error(
        "the member's data directory is not the one the cluster knows (wiped, or restored): \
         remove the member and add it anew"
    )]
    SenderReplaced,
    /// The sender does not hold what it had acknowledged to this member.
    #[error(
        "the member has lost entries that it had acknowledged (its data directory is an older copy of \
         it): what it votes for could undo what was committed"
    )]
    SenderForgot,
    /// The sender is not in the member table.
    #[error("the member is not known to this cluster")]
    SenderUnknown,
}

impl Refusal {
    const ALL: [(Refusal, &'static str); 9] = [
        (Refusal::UnknownProtocol, "unknown-protocol"),
        (Refusal::Unidentified, "unidentified"),
        (Refusal::OtherCluster, "other-cluster"),
        (Refusal::OtherTarget, "other-target"),
        (Refusal::TargetReplaced, "target-replaced"),
        (Refusal::SenderRemoved, "sender-removed"),
        (Refusal::SenderReplaced, "sender-replaced"),
        (Refusal::SenderForgot, "sender-forgot"),
        (Refusal::SenderUnknown, "sender-unknown"),
    ];

    /// Its name on the wire.
    pub(super) fn token(self) -> &'static str {
        let found = Refusal::ALL.iter().find(|(refusal, _)| *refusal == self);
        found.expect("every refusal has a name").1
    }

    /// The refusal of that name.
    pub(super) fn from_token(token: &str) -> Option<Refusal> {
        let found = Refusal::ALL.iter().find(|(_, name)| *name == token);
        found.map(|(refusal, _)| *refusal)
    }
}

/// Adds what a call of `target` says of itself. Id 0 is a target that is not known yet.
pub(super) fn introduce(headers: &mut HeaderMap, directory: &dyn Directory, target: MemberId) {
    let local = directory.local();
    let incarnation = match directory.standing(target) {
        Standing::Member { incarnation } => incarnation,
        Standing::Unknown | Standing::Removed => 0,
    };
    headers.insert(PROTOCOL_KEY, HeaderValue::from(PROTOCOL));
    for (key, value) in [
        (CLUSTER_KEY, local.cluster.0),
        (FROM_KEY, local.member.0),
        (FROM_INCARNATION_KEY, local.incarnation),
        (TO_KEY, target.0),
        (TO_INCARNATION_KEY, incarnation),
    ] {
        let value = HeaderValue::try_from(format!("{value:x}"));
        headers.insert(key, value.expect("hexadecimal digits are a header's value"));
    }
    let listens = directory.listens();
    if listens.is_empty() || listens.len() > LISTENS_MAX {
        return;
    }
    // URLs that are no header's value are told to nobody: the member table has them.
    if let Ok(value) = HeaderValue::from_str(&listens) {
        headers.insert(LISTENS_KEY, value);
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A member, by an incarnation that the table has of it.
    Member,
    /// One that may be heard, and has not shown to be a member: it asks who the members are, or it is not in
    /// the table yet, or has published no incarnation.
    Stranger,
}

/// Checks who speaks. With `anonymous` (the question who the members are) the sender need not know
/// its cluster, its id, and whom it asks.
pub(super) fn check(
    headers: &HeaderMap,
    directory: &dyn Directory,
    anonymous: bool,
) -> Result<Sender, Refusal> {
    let protocol = headers
        .get(PROTOCOL_KEY)
        .and_then(|value| value.to_str().ok())
        .ok_or(Refusal::Unidentified)?;
    if protocol.parse() != Ok(PROTOCOL) {
        return Err(Refusal::UnknownProtocol);
    }
    let sender = Local {
        cluster: ClusterId(number(headers, &CLUSTER_KEY)?),
        member: MemberId(number(headers, &FROM_KEY)?),
        incarnation: number(headers, &FROM_INCARNATION_KEY)?,
    };
    let target = MemberId(number(headers, &TO_KEY)?);
    let target_incarnation = number(headers, &TO_INCARNATION_KEY)?;
    let local = directory.local();
    let unknown = |id: u64| id == 0 && anonymous;
    if sender.cluster != local.cluster && !unknown(sender.cluster.0) {
        crate::log!(
            warn, "request cluster ID mismatch",
            "local-member-id" = %local.member,
            "local-member-cluster-id" = %local.cluster,
            "remote-peer-server-name" = %sender.member,
            "remote-peer-cluster-id" = %sender.cluster
        );
        return Err(Refusal::OtherCluster);
    }
    if target != local.member && !unknown(target.0) {
        return Err(Refusal::OtherTarget);
    }
    if target_incarnation != 0 && target_incarnation != local.incarnation {
        return Err(Refusal::TargetReplaced);
    }
    if unknown(sender.member.0) {
        return Ok(Sender::Stranger);
    }
    let who = check_sender(&sender, directory, anonymous)?;
    if who == Sender::Member {
        hear_address(headers, directory, &sender);
    }
    Ok(who)
}

/// Takes note of where a sender says that it is reached. Only one that is known by its data
/// directory's incarnation, which nobody can guess, may say so.
fn hear_address(headers: &HeaderMap, directory: &dyn Directory, sender: &Local) {
    let listens = headers
        .get(LISTENS_KEY)
        .and_then(|value| value.to_str().ok());
    if let Some(listens) = listens.filter(|listens| listens.len() <= LISTENS_MAX) {
        directory.heard(sender.member, listens);
    }
}

fn check_sender(
    sender: &Local,
    directory: &dyn Directory,
    anonymous: bool,
) -> Result<Sender, Refusal> {
    if directory.has_forgotten(sender.member) {
        return Err(Refusal::SenderForgot);
    }
    match directory.standing(sender.member) {
        Standing::Removed => Err(Refusal::SenderRemoved),
        Standing::Member { incarnation: 0 } => Ok(Sender::Stranger),
        Standing::Member { incarnation } if incarnation == sender.incarnation => Ok(Sender::Member),
        Standing::Member { .. } => Err(Refusal::SenderReplaced),
        Standing::Unknown if anonymous => Ok(Sender::Stranger),
        Standing::Unknown if sender.member.0 != 0 && directory.admit(sender.member) => {
            Ok(Sender::Stranger)
        }
        Standing::Unknown => Err(Refusal::SenderUnknown),
    }
}

fn number(headers: &HeaderMap, key: &HeaderName) -> Result<u64, Refusal> {
    let Some(value) = headers.get(key) else {
        return Ok(0);
    };
    let digits = value.to_str().map_err(|_| Refusal::Unidentified)?;
    u64::from_str_radix(digits, 16).map_err(|_| Refusal::Unidentified)
}
