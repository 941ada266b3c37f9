//! Every call of the descriptors, every field in it that names a key, a range or a lease, down through
//! transactions within transactions: for root, for whoever may, for whoever may not, for nobody, and
//! with authentication off. A call or a field that is not known here fails the test: whoever adds one
//! says who may use it.
//!
//! CVE-2026-33413 (calls that nobody checked), CVE-2026-33343 and CVE-2026-44283 (transactions within
//! transactions, leases in them), CVE-2026-73499 (a range that was changed before it was checked) and
//! CVE-2023-32082 (a lease that tells its keys) are rows of it.

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use engram_e2e::users::{Caller, make_users};
use engram_proto::etcdserverpb::{LeaseGrantRequest, PutRequest, WatchResponse};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};
use tonic::Status;
use tonic_prost::prost::Message as _;
use tonic_prost::prost::bytes::Bytes;

/// Transactions within each other.
const DEPTH: usize = 3;
/// The user that may, and what it may not.
pub(super) const MAY: &str = "in";
pub(super) const MAY_NOT: &str = "out";

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// By the keys that it names.
    Keys,
    /// Root.
    Root,
    /// Anybody who says who they are.
    User,
    /// Anybody.
    Open,
    /// Root, and whoever it is about.
    Own,
    /// Root to change; a user to look.
    RootToChange,
    /// Whoever may read every key that hangs on a lease.
    AllLeases,
}

pub(super) fn access(method: &MethodDescriptor) -> Access {
    match method.name() {
        "Range" | "RangeStream" | "Put" | "DeleteRange" | "Txn" | "Watch" => Access::Keys,
        "LeaseRevoke" | "LeaseKeepAlive" | "LeaseTimeToLive" => Access::Keys,
        "Lock" | "Unlock" | "Campaign" | "Proclaim" | "Leader" | "Observe" | "Resign" => {
            Access::Keys
        }
        "LeaseLeases" => Access::AllLeases,
        "LeaseGrant" | "MemberList" | "Status" => Access::User,
        "AuthStatus" | "Authenticate" => Access::Open,
        "UserGet" | "RoleGet" => Access::Own,
        "Alarm" => Access::RootToChange,
        "Compact"
        | "Defragment"
        | "Hash"
        | "HashKV"
        | "Snapshot"
        | "MoveLeader"
        | "Downgrade"
        | "MemberAdd"
        | "MemberRemove"
        | "MemberUpdate"
        | "MemberPromote"
        | "AuthEnable"
        | "AuthDisable"
        | "UserAdd"
        | "UserList"
        | "UserDelete"
        | "UserChangePassword"
        | "UserGrantRole"
        | "UserRevokeRole"
        | "RoleAdd"
        | "RoleList"
        | "RoleDelete"
        | "RoleGrantPermission"
        | "RoleRevokePermission" => Access::Root,
        _ => panic!("{}: nobody has said who may make it", method.full_name()),
    }
}

/// What a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Key,
    End,
    Lease,
    Nothing,
}

fn names(field: &FieldDescriptor, method: &MethodDescriptor) -> Names {
    match (field.full_name(), method.name()) {
        // What is said of a campaign besides its key; a resignation is of the key alone.
        ("v3electionpb.LeaderKey.name", _) | ("v3electionpb.LeaderKey.lease", "Resign") => {
            return Names::Nothing;
        }
        // A number to compare with.
        ("etcdserverpb.Compare.lease", _) => return Names::Nothing,
        _ => {}
    }
    match (field.kind(), field.name()) {
        (Kind::Bytes, "key" | "name") => Names::Key,
        (Kind::Bytes, "range_end") => Names::End,
        (Kind::Int64, "lease" | "ID") => Names::Lease,
        (Kind::Bytes, "value") => Names::Nothing,
        (
            Kind::Int64,
            "limit"
            | "revision"
            | "min_mod_revision"
            | "max_mod_revision"
            | "min_create_revision"
            | "max_create_revision"
            | "version"
            | "create_revision"
            | "mod_revision"
            | "start_revision"
            | "watch_id"
            | "rev",
        ) => Names::Nothing,
        (Kind::Bool | Kind::Enum(_) | Kind::Message(_), _) => Names::Nothing,
        _ => panic!("{}: nobody has said what it names", field.full_name()),
    }
}

/// The way to a field that names something.
pub(super) type Path = Vec<FieldDescriptor>;

/// All such fields of a message.
pub(super) fn paths(
    message: &MessageDescriptor,
    method: &MethodDescriptor,
    depth: usize,
) -> Vec<Path> {
    let mut found = Vec::new();
    for field in message.fields() {
        if names(&field, method) != Names::Nothing {
            found.push(vec![field]);
            continue;
        }
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        let deeper = depth + usize::from(inner.name() == "TxnRequest");
        if deeper > DEPTH {
            continue;
        }
        for rest in paths(&inner, method, deeper) {
            found.push([vec![field.clone()], rest].concat());
        }
    }
    found
}

/// What a call names.
#[derive(Clone)]
pub(super) struct Named {
    key: Vec<u8>,
    end: Option<Vec<u8>>,
    lease: Option<i64>,
}

/// The message in which the fields at the end of the path's way, and none else, name something.
pub(super) fn build(
    message: &MessageDescriptor,
    method: &MethodDescriptor,
    path: &[FieldDescriptor],
    named: &Named,
) -> DynamicMessage {
    let mut built = DynamicMessage::new(message.clone());
    if let [field, rest @ ..] = path
        && !rest.is_empty()
    {
        let Kind::Message(inner) = field.kind() else {
            panic!("{}: no message", field.full_name())
        };
        let inner = Value::Message(build(&inner, method, rest, named));
        let value = match field.is_list() {
            true => Value::List(vec![inner]),
            false => inner,
        };
        built.set_field(field, value);
        return built;
    }
    for field in message.fields() {
        let value = match names(&field, method) {
            Names::Key => Some(Value::Bytes(named.key.clone().into())),
            Names::End => named.end.clone().map(|end| Value::Bytes(end.into())),
            Names::Lease => named.lease.map(Value::I64),
            // A lease tells its keys where it is asked for them.
            Names::Nothing if field.name() == "keys" => Some(Value::Bool(true)),
            Names::Nothing => None,
        };
        if let Some(value) = value {
            built.set_field(&field, value);
        }
    }
    built
}

/// Why a call was refused on grounds of who makes it; none where it was not.
fn refused(method: &MethodDescriptor, answer: Result<Bytes, Status>) -> Option<&'static str> {
    let text = match answer {
        Err(status) => status.message().to_owned(),
        Ok(message) if method.full_name() == "etcdserverpb.Watch.Watch" => {
            let response = WatchResponse::decode(message).expect("a watch's response");
            response.cancel_reason
        }
        Ok(_) => return None,
    };
    [DENIED, NOBODY, INVALID]
        .into_iter()
        .find(|known| text.contains(known))
}

const DENIED: &str = "permission denied";
const NOBODY: &str = "user name is empty";
const INVALID: &str = "invalid auth token";

/// The callers, and what the calls need.
pub(super) struct Matrix<'s> {
    server: &'s Server,
    pub(super) root: Caller,
    pub(super) may: Caller,
    pub(super) may_not: Caller,
    pub(super) nobody: Caller,
    pub(super) stranger: Caller,
    /// So that no two calls name the same.
    count: u64,
}

impl Matrix<'_> {
    pub(super) async fn of(server: &Server) -> Matrix<'_> {
        let nobody = Caller::nobody(server.address()).await;
        let stranger = Caller {
            token: Some("abcdefghijklmnop.1".to_owned()),
            ..nobody.clone()
        };
        Matrix {
            server,
            root: Caller::user(server.address(), "root").await,
            may: Caller::user(server.address(), MAY).await,
            may_not: Caller::user(server.address(), MAY_NOT).await,
            nobody,
            stranger,
            count: 0,
        }
    }

    /// Makes a call; why it was refused.
    async fn ask(
        &self,
        method: &MethodDescriptor,
        who: &Caller,
        message: &DynamicMessage,
    ) -> Option<&'static str> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let message = message.encode_to_vec().into();
        let answer = who.call(&path, message, method.is_client_streaming());
        refused(method, answer.await)
    }

    /// A lease with a key of a user's.
    async fn lease(&self, of: &str) -> i64 {
        let mut client = Client::connect(self.server.address()).await;
        let grant = LeaseGrantRequest { ttl: 600, id: 0 };
        let granted = client.lease.lease_grant(self.root.request(grant)).await;
        let lease = granted.expect("a lease").into_inner().id;
        let put = PutRequest {
            key: format!("{of}/leased{lease}").into(),
            lease,
            ..PutRequest::default()
        };
        client.kv.put(self.root.request(put)).await.expect("a put");
        lease
    }

    /// Has elections of both users a leader: who has the oldest key.
    async fn elect(&self) {
        let mut client = Client::connect(self.server.address()).await;
        for of in [MAY, MAY_NOT] {
            let put = PutRequest {
                key: format!("{of}/led/1").into(),
                ..PutRequest::default()
            };
            client.kv.put(self.root.request(put)).await.expect("a put");
        }
    }

    /// What a call names: something of the user's, and where the path ends something of another's, in
    /// each way that there is.
    pub(super) async fn named(
        &mut self,
        method: &MethodDescriptor,
        path: &Path,
    ) -> (Named, Vec<Named>) {
        self.count += 1;
        let key = match method.name() {
            "Leader" | "Observe" => {
                self.elect().await;
                format!("{MAY}/led")
            }
            _ => format!("{MAY}/{}", self.count),
        };
        let plain = Named {
            key: key.clone().into_bytes(),
            end: None,
            lease: None,
        };
        let field = path.last().expect("a path ends with a field");
        match names(field, method) {
            Names::Key => {
                let other = key.replacen(MAY, MAY_NOT, 1).into_bytes();
                let other = Named {
                    key: other,
                    ..plain.clone()
                };
                (plain, vec![other])
            }
            Names::End => {
                let end = |end: &[u8]| Named {
                    end: Some(end.to_vec()),
                    ..plain.clone()
                };
                let inside = end(format!("{key}0").as_bytes());
                (inside, vec![end(b"z"), end(b"\0"), end(b"in1")])
            }
            Names::Lease => {
                let (own, other) = (self.lease(MAY).await, self.lease(MAY_NOT).await);
                let lease = |lease| Named {
                    lease: Some(lease),
                    ..plain.clone()
                };
                // Of another name: what waits for a lock waits behind who has it.
                let mut other = lease(other);
                other.key.push(b'x');
                (lease(own), vec![other])
            }
            Names::Nothing => unreachable!("paths end where something is named"),
        }
    }

    async fn keys(&mut self, method: &MethodDescriptor) -> usize {
        let input = method.input();
        let paths = paths(&input, method, 0);
        assert!(!paths.is_empty(), "{}: names nothing", method.full_name());
        for path in &paths {
            let (own, others) = self.named(method, path).await;
            let message = build(&input, method, path, &own);
            let of = format!("{} {}", method.full_name(), shown(path));
            assert_eq!(
                self.ask(method, &self.nobody, &message).await,
                Some(NOBODY),
                "{of}"
            );
            assert_eq!(
                self.ask(method, &self.stranger, &message).await,
                Some(INVALID),
                "{of}"
            );
            assert_eq!(
                self.ask(method, &self.may_not, &message).await,
                Some(DENIED),
                "{of}"
            );
            assert_eq!(self.ask(method, &self.may, &message).await, None, "{of}");
            for other in others {
                let message = build(&input, method, path, &other);
                let refused = self.ask(method, &self.may, &message).await;
                assert_eq!(refused, Some(DENIED), "{of} of another's");
                let refused = self.ask(method, &self.nobody, &message).await;
                assert_eq!(refused, Some(NOBODY), "{of} of another's");
                let refused = self.ask(method, &self.root, &message).await;
                assert_eq!(refused, None, "{of} of another's, as root");
            }
        }
        paths.len()
    }

    async fn whole(&mut self, method: &MethodDescriptor, access: Access) {
        let (may, nobody) = match access {
            Access::Root => (Some(DENIED), Some(NOBODY)),
            Access::Open => (None, None),
            Access::AllLeases => (Some(DENIED), Some(NOBODY)),
            _ => (None, Some(NOBODY)),
        };
        let name = method.full_name();
        let message = filled(method, MAY);
        // Nobody first: what root does counts.
        assert_eq!(
            self.ask(method, &self.nobody, &message).await,
            nobody,
            "{name}"
        );
        assert_eq!(self.ask(method, &self.may, &message).await, may, "{name}");
        if access == Access::Own {
            let refused = self.ask(method, &self.may_not, &message).await;
            assert_eq!(refused, Some(DENIED), "{name}");
        }
        if access == Access::RootToChange {
            let mut change = message.clone();
            change.set_field_by_name("action", Value::EnumNumber(2));
            assert_eq!(
                self.ask(method, &self.may, &change).await,
                Some(DENIED),
                "{name}"
            );
            assert_eq!(
                self.ask(method, &self.nobody, &change).await,
                Some(NOBODY),
                "{name}"
            );
            assert_eq!(self.ask(method, &self.root, &change).await, None, "{name}");
        }
        if method.name() != "AuthDisable" {
            let message = filled(method, "matrix");
            assert_eq!(
                self.ask(method, &self.root, &message).await,
                None,
                "{name}, as root"
            );
        }
    }

    /// With authentication off nothing is refused, whoever asks.
    async fn off(&mut self, methods: &[MethodDescriptor]) {
        for method in methods {
            // On again it must not come.
            if method.name() == "AuthEnable" {
                continue;
            }
            for who in [&self.nobody, &self.may_not, &self.stranger].map(Clone::clone) {
                let message = match access(method) {
                    Access::Keys => {
                        let path = &paths(&method.input(), method, 0)[0];
                        let (own, _) = self.named(method, path).await;
                        build(&method.input(), method, path, &own)
                    }
                    _ => filled(method, "matrix"),
                };
                let refused = self.ask(method, &who, &message).await;
                assert_eq!(refused, None, "{}, off", method.full_name());
            }
        }
    }
}

pub(super) fn shown(path: &Path) -> String {
    let names: Vec<&str> = path.iter().map(FieldDescriptor::name).collect();
    names.join(".")
}

/// A message in which every text is `text`.
pub(super) fn filled(method: &MethodDescriptor, text: &str) -> DynamicMessage {
    let mut message = DynamicMessage::new(method.input());
    for field in method.input().fields().filter(|field| !field.is_list()) {
        if field.kind() == Kind::String {
            message.set_field(&field, Value::String(text.to_owned()));
        }
    }
    message
}

/// Every call of etcd's services, the one that ends authentication last.
pub(super) fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(engram_proto::DESCRIPTORS).expect("the descriptors");
    let services = pool.services().filter(|service| {
        ["etcdserverpb", "v3lockpb", "v3electionpb"].contains(&service.package_name())
    });
    let mut methods: Vec<_> = services
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .collect();
    methods.sort_by_key(|method| method.name() == "AuthDisable");
    assert!(methods.len() >= 45, "{}", methods.len());
    methods
}

#[test]
fn every_field_that_names_a_key_is_held_against_who_asks() {
    let _turn = turn::take("auth");
    let server = Setup::engram().flag("--bcrypt-cost=4").start();
    let runtime = client::runtime();
    runtime.block_on(async {
        make_users(server.address(), &[MAY, MAY_NOT]).await;
        let mut matrix = Matrix::of(&server).await;
        let methods = methods();
        let mut fields = 0;
        for method in &methods {
            match access(method) {
                Access::Keys => fields += matrix.keys(method).await,
                access => matrix.whole(method, access).await,
            }
        }
        println!(
            "{} calls, {fields} fields that name something",
            methods.len()
        );
        let mut auth =
            engram_proto::etcdserverpb::auth_client::AuthClient::new(matrix.root.channel.clone());
        let disable = engram_proto::etcdserverpb::AuthDisableRequest {};
        let disabled = auth.auth_disable(matrix.root.request(disable)).await;
        disabled.expect("root may");
        matrix.off(&methods).await;
    });
}
