//! Every call the edge knows: its path, its kind, and who may make it. What has no row here is not
//! served, and a row cannot be written without saying who may make the call.

use std::collections::HashMap;

/// How a call's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl Kind {
    /// The metrics' label.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// Who may make a call once authentication is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Anybody who has authenticated.
    Authenticated,
    /// By the keys that the request names.
    Keys,
    /// By the keys attached to the lease.
    LeaseKeys,
    /// The user or role itself, else root.
    OwnOrRoot,
    /// Root to change, anybody authenticated to look.
    RootToChange,
    /// Root alone.
    Root,
}

macro_rules! table {
    ($($service:literal { $($rpc:ident = $method:literal $kind:ident $access:ident;)* })*) => {
        /// A call, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is documented by its row and by etcd's API")]
        pub enum Rpc { $($($rpc,)*)* }

        /// All rows; a call's index is its counters' index.
        pub const ROWS: &[Row] = &[$($(Row {
            path: concat!("/", $service, "/", $method),
            service: $service,
            method: $method,
            kind: Kind::$kind,
            access: Access::$access,
            rpc: Rpc::$rpc,
        },)*)*];
    };
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The HTTP/2 path.
    pub path: &'static str,
    /// The service's full name.
    pub service: &'static str,
    /// The method's name.
    pub method: &'static str,
    /// How its messages go.
    pub kind: Kind,
    /// Who may make it.
    pub access: Access,
    /// Which it is.
    pub rpc: Rpc,
}

table! {
    "etcdserverpb.KV" {
        Range = "Range" Unary Keys;
        RangeStream = "RangeStream" ServerStream Keys;
        Put = "Put" Unary Keys;
        DeleteRange = "DeleteRange" Unary Keys;
        Txn = "Txn" Unary Keys;
        Compact = "Compact" Unary Root;
    }
    "etcdserverpb.Watch" {
        Watch = "Watch" BidiStream Keys;
    }
    "etcdserverpb.Lease" {
        LeaseGrant = "LeaseGrant" Unary Authenticated;
        LeaseRevoke = "LeaseRevoke" Unary LeaseKeys;
        LeaseKeepAlive = "LeaseKeepAlive" BidiStream Authenticated;
        LeaseTimeToLive = "LeaseTimeToLive" Unary LeaseKeys;
        LeaseLeases = "LeaseLeases" Unary LeaseKeys;
    }
    "etcdserverpb.Cluster" {
        MemberAdd = "MemberAdd" Unary Root;
        MemberRemove = "MemberRemove" Unary Root;
        MemberUpdate = "MemberUpdate" Unary Root;
        MemberList = "MemberList" Unary Authenticated;
        MemberPromote = "MemberPromote" Unary Root;
    }
    "etcdserverpb.Maintenance" {
        Alarm = "Alarm" Unary RootToChange;
        Status = "Status" Unary Authenticated;
        Defragment = "Defragment" Unary Root;
        Hash = "Hash" Unary Root;
        HashKv = "HashKV" Unary Root;
        Snapshot = "Snapshot" ServerStream Root;
        MoveLeader = "MoveLeader" Unary Root;
        Downgrade = "Downgrade" Unary Root;
    }
    "etcdserverpb.Auth" {
        AuthEnable = "AuthEnable" Unary Root;
        AuthDisable = "AuthDisable" Unary Root;
        AuthStatus = "AuthStatus" Unary Open;
        Authenticate = "Authenticate" Unary Open;
        UserAdd = "UserAdd" Unary Root;
        UserGet = "UserGet" Unary OwnOrRoot;
        UserList = "UserList" Unary Root;
        UserDelete = "UserDelete" Unary Root;
        UserChangePassword = "UserChangePassword" Unary Root;
        UserGrantRole = "UserGrantRole" Unary Root;
        UserRevokeRole = "UserRevokeRole" Unary Root;
        RoleAdd = "RoleAdd" Unary Root;
        RoleGet = "RoleGet" Unary OwnOrRoot;
        RoleList = "RoleList" Unary Root;
        RoleDelete = "RoleDelete" Unary Root;
        RoleGrantPermission = "RoleGrantPermission" Unary Root;
        RoleRevokePermission = "RoleRevokePermission" Unary Root;
    }
    "v3lockpb.Lock" {
        Lock = "Lock" Unary Keys;
        Unlock = "Unlock" Unary Keys;
    }
    "v3electionpb.Election" {
        Campaign = "Campaign" Unary Keys;
        Proclaim = "Proclaim" Unary Keys;
        Leader = "Leader" Unary Keys;
        Observe = "Observe" ServerStream Keys;
        Resign = "Resign" Unary Keys;
    }
    "grpc.health.v1.Health" {
        HealthCheck = "Check" Unary Open;
        HealthList = "List" Unary Open;
        HealthWatch = "Watch" ServerStream Open;
    }
}

/// The rows by path.
pub struct Table(HashMap<&'static str, usize>);

impl Table {
    /// All of them.
    pub fn new() -> Table {
        let rows: HashMap<_, _> = ROWS
            .iter()
            .enumerate()
            .map(|(at, row)| (row.path, at))
            .collect();
        assert_eq!(rows.len(), ROWS.len(), "every call has a path of its own");
        Table(rows)
    }

    /// The index of a path's row.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.0.get(path).copied()
    }

    /// Whether a path names a service that is known.
    pub fn knows_service(path: &str) -> bool {
        let service = path
            .strip_prefix('/')
            .unwrap_or(path)
            .rsplit_once('/')
            .map(|(service, _)| service);
        service.is_some_and(|service| ROWS.iter().any(|row| row.service == service))
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}
