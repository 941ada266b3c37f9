//! What an entry of etcd's log asks for, as etcd 3.5 to 3.7 write it.
//!
//! Source: `raft_internal.proto`, `membership.proto`; for etcd 3.5 also `etcdserver.proto`, whose
//! requests to the old store carried what members tell of themselves and the cluster's version.

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use prost::Message as _;

use super::users::{self, Field, Header};
use crate::codec::request as codec;
use crate::types::request::{Alarm, AlarmType, Compact, LeaseGrant, MemberAttributes, Op};
use crate::types::{LeaseId, MemberId};

/// The longest time to live that etcd grants, seconds.
const LEASE_TTL_MAX: i64 = 9_000_000_000;
/// Where the old store kept the members, and the cluster's version.
const V2_MEMBERS: &str = "/0/members/";
const V2_VERSION: &str = "/0/version";

/// Why an entry is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It cannot be decoded.
    Damaged(&'static str),
    /// No etcd up to 3.7 writes it.
    Unknown,
}

/// `InternalRaftRequest`: a request each field. What is inside is decoded where it matters.
#[derive(Clone, PartialEq, prost::Message)]
struct Internal {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    v2: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    range: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    put: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    delete_range: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    txn: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    compaction: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    lease_grant: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    lease_revoke: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    alarm: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "11")]
    lease_checkpoint: Option<Bytes>,
    #[prost(message, optional, tag = "100")]
    header: Option<Header>,
    #[prost(bytes = "bytes", optional, tag = "1000")]
    auth_enable: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1011")]
    auth_disable: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1012")]
    authenticate: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1013")]
    auth_status: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1100")]
    user_add: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1101")]
    user_delete: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1102")]
    user_get: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1103")]
    user_change_password: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1104")]
    user_grant_role: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1105")]
    user_revoke_role: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1106")]
    user_list: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1107")]
    role_list: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1200")]
    role_add: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1201")]
    role_delete: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1202")]
    role_get: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1203")]
    role_grant_permission: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1204")]
    role_revoke_permission: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1300")]
    cluster_version_set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1301")]
    member_attributes_set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "1302")]
    downgrade_info_set: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "9900")]
    downgrade_version_test: Option<Bytes>,
}

/// `etcdserverpb.Request` of etcd 3.5, which its log holds as it is.
#[derive(Clone, PartialEq, prost::Message)]
struct V2Request {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(string, tag = "3")]
    path: String,
    #[prost(string, tag = "4")]
    value: String,
}

/// `membershippb.ClusterVersionSetRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct VersionSet {
    #[prost(string, tag = "1")]
    version: String,
}

/// `membershippb.ClusterMemberAttrSetRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct AttributesSet {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(message, optional, tag = "2")]
    attributes: Option<Attributes>,
}

/// `membershippb.Attributes`.
#[derive(Clone, PartialEq, prost::Message)]
struct Attributes {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    client_urls: Vec<String>,
}

/// The same as JSON, in a request to the old store.
#[derive(serde::Deserialize)]
struct AttributesJson {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
}

/// The operation that a request is for the store, by whoever asked for it; none for one that changes
/// nothing. A lease lives at least `lease_ttl_min` seconds.
///
/// # Errors
/// See [`Unfit`].
pub(super) fn operation(data: &Bytes, lease_ttl_min: i64) -> Result<Option<Op>, Unfit> {
    if data.is_empty() {
        return Ok(None);
    }
    let request = match Internal::decode(data.clone()) {
        Ok(request) if request.v2.as_deref().is_none_or(|v2| !is_method(v2)) => request,
        // etcd 3.5's request to its old store is no such message, or has its method in the place of one.
        Ok(_) | Err(_) => return v2_operation(decode(data)?),
    };
    if let Some(v2) = &request.v2 {
        return v2_operation(decode(v2)?);
    }
    let found = match request.key_value(lease_ttl_min)? {
        Some(op) => Some(op),
        None => request.cluster()?,
    };
    let op = match (found, request.users()) {
        (Some(op), _) => op,
        (None, Some((field, bytes))) => users::change(field, bytes)?.map(Op::Auth),
        (None, None) if request.changes_nothing() => None,
        (None, None) => return Err(Unfit::Unknown),
    };
    Ok(op.map(|op| users::asked(request.header.as_ref(), op)))
}

impl Internal {
    fn key_value(&self, lease_ttl_min: i64) -> Result<Option<Option<Op>>, Unfit> {
        if let Some(bytes) = &self.put {
            let put = codec::put(decode(bytes)?).map_err(|_| Unfit::Damaged("a put"))?;
            return Ok(Some(Some(Op::Put(put))));
        }
        if let Some(bytes) = &self.delete_range {
            let delete = codec::delete_range(decode(bytes)?);
            let delete = delete.map_err(|_| Unfit::Damaged("a delete"))?;
            return Ok(Some(Some(Op::DeleteRange(delete))));
        }
        if let Some(bytes) = &self.txn {
            let txn = codec::decode_txn(bytes.clone(), usize::MAX);
            let txn = txn.map_err(|_| Unfit::Damaged("a transaction"))?;
            return Ok(Some(Some(Op::Txn(txn))));
        }
        if let Some(bytes) = &self.compaction {
            let compaction: pb::CompactionRequest = decode(bytes)?;
            return Ok(Some(Some(Op::Compact(Compact {
                revision: compaction.revision,
            }))));
        }
        if let Some(bytes) = &self.lease_grant {
            return Ok(Some(grant(decode(bytes)?, lease_ttl_min)));
        }
        if let Some(bytes) = &self.lease_revoke {
            let revoke: pb::LeaseRevokeRequest = decode(bytes)?;
            return Ok(Some(Some(Op::LeaseRevoke(LeaseId(revoke.id)))));
        }
        // What is left of a lease is the leader's matter: a new one counts anew.
        Ok(self.lease_checkpoint.as_ref().map(|_| None))
    }

    fn cluster(&self) -> Result<Option<Option<Op>>, Unfit> {
        if let Some(bytes) = &self.alarm {
            return Ok(Some(alarm(&decode(bytes)?)?));
        }
        if let Some(bytes) = &self.cluster_version_set {
            let set: VersionSet = decode(bytes)?;
            return Ok(Some(Some(Op::SetClusterVersion(set.version))));
        }
        if let Some(bytes) = &self.member_attributes_set {
            let set: AttributesSet = decode(bytes)?;
            let told = set.attributes.unwrap_or_default();
            let attributes = MemberAttributes {
                name: told.name,
                client_urls: told.client_urls,
                ..MemberAttributes::default()
            };
            return Ok(Some(Some(publish(MemberId(set.member), attributes))));
        }
        let is_downgrade =
            self.downgrade_info_set.is_some() || self.downgrade_version_test.is_some();
        Ok(is_downgrade.then_some(None))
    }

    /// Whether it changes nothing. A token that was given out is its member's memory.
    fn changes_nothing(&self) -> bool {
        [
            &self.range,
            &self.authenticate,
            &self.auth_status,
            &self.user_get,
            &self.user_list,
            &self.role_get,
            &self.role_list,
        ]
        .iter()
        .any(|field| field.is_some())
    }

    /// What it changes of users, roles or the switch.
    fn users(&self) -> Option<(Field, &Bytes)> {
        let fields = [
            (Field::Enable, &self.auth_enable),
            (Field::Disable, &self.auth_disable),
            (Field::UserAdd, &self.user_add),
            (Field::UserDelete, &self.user_delete),
            (Field::UserChangePassword, &self.user_change_password),
            (Field::UserGrantRole, &self.user_grant_role),
            (Field::UserRevokeRole, &self.user_revoke_role),
            (Field::RoleAdd, &self.role_add),
            (Field::RoleDelete, &self.role_delete),
            (Field::RoleGrantPermission, &self.role_grant_permission),
            (Field::RoleRevokePermission, &self.role_revoke_permission),
        ];
        let mut found = fields.into_iter();
        found.find_map(|(field, bytes)| Some((field, bytes.as_ref()?)))
    }
}

fn grant(request: pb::LeaseGrantRequest, lease_ttl_min: i64) -> Option<Op> {
    // etcd refuses these when it applies them.
    let is_granted = request.id != 0 && request.ttl <= LEASE_TTL_MAX;
    is_granted.then(|| {
        Op::LeaseGrant(LeaseGrant {
            id: LeaseId(request.id),
            ttl_seconds: request.ttl.max(lease_ttl_min),
        })
    })
}

fn alarm(request: &pb::AlarmRequest) -> Result<Option<Op>, Unfit> {
    let member = MemberId(request.member_id);
    let kind = match request.alarm {
        0 => None,
        1 => Some(AlarmType::NoSpace),
        2 => Some(AlarmType::Corrupt),
        _ => return Err(Unfit::Unknown),
    };
    let change = match (request.action, kind) {
        (0, _) | (_, None) => return Ok(None),
        (1, Some(kind)) => Alarm::Activate(member, kind),
        (2, Some(kind)) => Alarm::Deactivate(member, kind),
        _ => return Err(Unfit::Unknown),
    };
    Ok(Some(Op::Alarm(change)))
}

/// What an etcd tells of itself says nothing of a data directory of engram.
fn publish(member: MemberId, attributes: MemberAttributes) -> Op {
    Op::PublishMember {
        member,
        incarnation: 0,
        attributes,
    }
}

/// Whether it names what a request to the old store does.
fn is_method(name: &[u8]) -> bool {
    const METHODS: [&[u8]; 6] = [b"GET", b"PUT", b"POST", b"DELETE", b"QGET", b"SYNC"];
    METHODS.contains(&name)
}

/// A request to etcd 3.5's old store. What clients kept there is not carried: etcd 3.6 has no such
/// store either.
fn v2_operation(request: V2Request) -> Result<Option<Op>, Unfit> {
    if !is_method(request.method.as_bytes()) {
        return Err(Unfit::Damaged("a request"));
    }
    if request.method != "PUT" {
        return Ok(None);
    }
    if request.path == V2_VERSION {
        return Ok(Some(Op::SetClusterVersion(request.value)));
    }
    let member = request.path.strip_prefix(V2_MEMBERS);
    let Some(id) = member.and_then(|rest| rest.strip_suffix("/attributes")) else {
        return Ok(None);
    };
    let id = u64::from_str_radix(id, 16).map_err(|_| Unfit::Damaged("a member's id"))?;
    let told: AttributesJson = serde_json::from_str(&request.value)
        .map_err(|_| Unfit::Damaged("a member's attributes"))?;
    let attributes = MemberAttributes {
        name: told.name,
        client_urls: told.client_urls,
        ..MemberAttributes::default()
    };
    Ok(Some(publish(MemberId(id), attributes)))
}

fn decode<M: prost::Message + Default>(bytes: &Bytes) -> Result<M, Unfit> {
    M::decode(bytes.clone()).map_err(|_| Unfit::Damaged("a request"))
}
