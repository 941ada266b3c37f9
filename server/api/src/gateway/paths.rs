//! The paths of the gateway, and the call that each is: etcd's `google.api.http` annotations, all of
//! them `POST` with the message as the body.
//!
//! Source: `api/etcdserverpb/rpc.proto`, `server/etcdserver/api/v3lock` and `v3election` of etcd 3.7.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MethodDescriptor};

/// Path and method. What a call's messages are, and whether they are streams, the descriptors say.
const PATHS: &[(&str, &str)] = &[
    ("/v3/kv/range", "etcdserverpb.KV.Range"),
    ("/v3/kv/put", "etcdserverpb.KV.Put"),
    ("/v3/kv/deleterange", "etcdserverpb.KV.DeleteRange"),
    ("/v3/kv/txn", "etcdserverpb.KV.Txn"),
    ("/v3/kv/compaction", "etcdserverpb.KV.Compact"),
    ("/v3/watch", "etcdserverpb.Watch.Watch"),
    ("/v3/lease/grant", "etcdserverpb.Lease.LeaseGrant"),
    ("/v3/lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("/v3/kv/lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("/v3/lease/keepalive", "etcdserverpb.Lease.LeaseKeepAlive"),
    ("/v3/lease/timetolive", "etcdserverpb.Lease.LeaseTimeToLive"),
    (
        "/v3/kv/lease/timetolive",
        "etcdserverpb.Lease.LeaseTimeToLive",
    ),
    ("/v3/lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("/v3/kv/lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("/v3/cluster/member/add", "etcdserverpb.Cluster.MemberAdd"),
    (
        "/v3/cluster/member/remove",
        "etcdserverpb.Cluster.MemberRemove",
    ),
    (
        "/v3/cluster/member/update",
        "etcdserverpb.Cluster.MemberUpdate",
    ),
    ("/v3/cluster/member/list", "etcdserverpb.Cluster.MemberList"),
    (
        "/v3/cluster/member/promote",
        "etcdserverpb.Cluster.MemberPromote",
    ),
    ("/v3/maintenance/alarm", "etcdserverpb.Maintenance.Alarm"),
    ("/v3/maintenance/status", "etcdserverpb.Maintenance.Status"),
    (
        "/v3/maintenance/defragment",
        "etcdserverpb.Maintenance.Defragment",
    ),
    ("/v3/maintenance/hash", "etcdserverpb.Maintenance.Hash"),
    ("/v3/maintenance/hashkv", "etcdserverpb.Maintenance.HashKV"),
    (
        "/v3/maintenance/snapshot",
        "etcdserverpb.Maintenance.Snapshot",
    ),
    (
        "/v3/maintenance/transfer-leadership",
        "etcdserverpb.Maintenance.MoveLeader",
    ),
    (
        "/v3/maintenance/downgrade",
        "etcdserverpb.Maintenance.Downgrade",
    ),
    ("/v3/auth/enable", "etcdserverpb.Auth.AuthEnable"),
    ("/v3/auth/disable", "etcdserverpb.Auth.AuthDisable"),
    ("/v3/auth/status", "etcdserverpb.Auth.AuthStatus"),
    ("/v3/auth/authenticate", "etcdserverpb.Auth.Authenticate"),
    ("/v3/auth/user/add", "etcdserverpb.Auth.UserAdd"),
    ("/v3/auth/user/get", "etcdserverpb.Auth.UserGet"),
    ("/v3/auth/user/list", "etcdserverpb.Auth.UserList"),
    ("/v3/auth/user/delete", "etcdserverpb.Auth.UserDelete"),
    (
        "/v3/auth/user/changepw",
        "etcdserverpb.Auth.UserChangePassword",
    ),
    ("/v3/auth/user/grant", "etcdserverpb.Auth.UserGrantRole"),
    ("/v3/auth/user/revoke", "etcdserverpb.Auth.UserRevokeRole"),
    ("/v3/auth/role/add", "etcdserverpb.Auth.RoleAdd"),
    ("/v3/auth/role/get", "etcdserverpb.Auth.RoleGet"),
    ("/v3/auth/role/list", "etcdserverpb.Auth.RoleList"),
    ("/v3/auth/role/delete", "etcdserverpb.Auth.RoleDelete"),
    (
        "/v3/auth/role/grant",
        "etcdserverpb.Auth.RoleGrantPermission",
    ),
    (
        "/v3/auth/role/revoke",
        "etcdserverpb.Auth.RoleRevokePermission",
    ),
    ("/v3/lock/lock", "v3lockpb.Lock.Lock"),
    ("/v3/lock/unlock", "v3lockpb.Lock.Unlock"),
    ("/v3/election/campaign", "v3electionpb.Election.Campaign"),
    ("/v3/election/proclaim", "v3electionpb.Election.Proclaim"),
    ("/v3/election/leader", "v3electionpb.Election.Leader"),
    ("/v3/election/observe", "v3electionpb.Election.Observe"),
    ("/v3/election/resign", "v3electionpb.Election.Resign"),
];

static CALLS: LazyLock<HashMap<&'static str, MethodDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(engram_proto::DESCRIPTORS)
        .expect("the descriptors were encoded when this was built");
    let methods: HashMap<String, MethodDescriptor> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| (method.full_name().to_owned(), method))
        .collect();
    let find = |name: &str| methods.get(name).cloned();
    PATHS
        .iter()
        .map(|&(path, name)| (path, find(name).expect("every path names a method")))
        .collect()
});

/// The call that a path is.
pub(super) fn find(path: &str) -> Option<&'static MethodDescriptor> {
    CALLS.get(path)
}

/// The same call's path in gRPC.
pub(super) fn grpc(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Kind, ROWS};

    #[test]
    fn every_path_is_a_call_of_the_table_and_of_its_kind() {
        for (path, name) in PATHS {
            let method = find(path).unwrap();
            let row = ROWS.iter().find(|row| row.path == grpc(method));
            let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => Kind::Unary,
                (false, true) => Kind::ServerStream,
                _ => Kind::BidiStream,
            };
            assert_eq!(row.map(|row| row.kind), Some(kind), "{path}: {name}");
        }
    }

    #[test]
    fn every_call_that_etcd_annotates_has_a_path() {
        let without: Vec<_> = ROWS
            .iter()
            .filter(|row| !CALLS.values().any(|method| grpc(method) == row.path))
            .map(|row| row.path)
            .collect();
        let etcds = [
            "/etcdserverpb.KV/RangeStream",
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/List",
            "/grpc.health.v1.Health/Watch",
        ];
        assert_eq!(without, etcds);
    }
}
