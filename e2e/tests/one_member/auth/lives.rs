//! What lives longer than a call: watches, elections that are observed, users over a restart and on
//! their way to etcd and back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::users::{Caller, PASSWORD, make_users};
use engram_e2e::{tools, turn};
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::watch_client::WatchClient;
use engram_proto::etcdserverpb::{
    AuthUserDeleteRequest, AuthUserRevokeRoleRequest, PutRequest, WatchCreateRequest, WatchRequest,
    WatchResponse, watch_request,
};
use tonic::Streaming;
use tonic::codegen::tokio_stream::{self, StreamExt as _};

const SOON: Duration = Duration::from_secs(10);
const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

async fn watch(who: &Caller, keys: &[&str]) -> Streaming<WatchResponse> {
    let create = |key: &&str| WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(
            WatchCreateRequest {
                key: key.as_bytes().to_vec().into(),
                ..WatchCreateRequest::default()
            },
        )),
    };
    let requests: Vec<WatchRequest> = keys.iter().map(create).collect();
    let requests = tokio_stream::iter(requests).chain(tokio_stream::pending());
    let mut client = WatchClient::new(who.channel.clone());
    let answer = client.watch(who.request(requests)).await;
    let mut stream = answer.expect("a watch").into_inner();
    for _ in keys {
        let created = next(&mut stream).await;
        assert!(created.created && !created.canceled, "{created:?}");
    }
    stream
}

async fn next(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    let response = tokio::time::timeout(SOON, stream.message()).await;
    let response = response
        .expect("a response in time")
        .expect("an open watch");
    response.expect("the watch goes on")
}

async fn put(server: &Server, who: &Caller, key: &str) {
    let mut client = Client::connect(server.address()).await;
    let put = PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: "secret".into(),
        ..PutRequest::default()
    };
    client.kv.put(who.request(put)).await.expect("a put");
}

#[test]
fn a_watch_ends_with_the_permission_and_the_others_go_on() {
    let _turn = turn::take("auth's watches");
    let server = Setup::engram().flag("--bcrypt-cost=4").start();
    client::runtime().block_on(async {
        let nobody = Caller::nobody(server.address()).await;
        let mut before = watch(&nobody, &["alice/1"]).await;
        make_users(server.address(), &["alice", "bob"]).await;
        // Whoever watched before there were users is nobody now.
        let ended = next(&mut before).await;
        let reason = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
        assert_eq!(
            (ended.canceled, ended.cancel_reason.as_str()),
            (true, reason)
        );

        let root = Caller::user(server.address(), "root").await;
        let alice = Caller::user(server.address(), "alice").await;
        let bob = Caller::user(server.address(), "bob").await;
        let mut auth = AuthClient::new(root.channel.clone());
        let both = engram_proto::etcdserverpb::AuthUserGrantRoleRequest {
            user: "alice".into(),
            role: "bob".into(),
        };
        let granted = auth.user_grant_role(root.request(both)).await;
        granted.expect("root may");
        let mut alices = watch(&alice, &["alice/1", "bob/1"]).await;
        let mut bobs = watch(&bob, &["bob/1"]).await;
        for key in ["alice/1", "bob/1"] {
            put(&server, &root, key).await;
            assert_eq!(next(&mut alices).await.events.len(), 1);
        }
        assert_eq!(next(&mut bobs).await.events.len(), 1);

        let revoke = AuthUserRevokeRoleRequest {
            name: "alice".into(),
            role: "bob".into(),
        };
        let revoked = auth.user_revoke_role(root.request(revoke)).await;
        revoked.expect("root may");
        // Nothing was written, and the watch is told at once.
        let ended = next(&mut alices).await;
        assert_eq!((ended.canceled, ended.watch_id), (true, 1));
        assert_eq!(ended.cancel_reason, DENIED);
        put(&server, &root, "bob/1").await;
        put(&server, &root, "alice/1").await;
        let own = next(&mut alices).await;
        assert_eq!((own.watch_id, own.events.len()), (0, 1));
        assert_eq!(next(&mut bobs).await.events.len(), 1);

        let delete = AuthUserDeleteRequest { name: "bob".into() };
        let deleted = auth.user_delete(root.request(delete)).await;
        deleted.expect("root may");
        let ended = next(&mut bobs).await;
        assert_eq!(
            (ended.canceled, ended.cancel_reason.as_str()),
            (true, DENIED)
        );
    });
}

/// Users, roles and who may what, as etcdctl shows them; `user` is who asks.
fn users(server: &Server) -> String {
    let asked = [
        &["user", "list"][..],
        &["user", "get", "alice", "--detail"],
        &["user", "get", "root"],
        &["role", "list"],
        &["role", "get", "alice"],
        &["auth", "status"],
    ];
    asked.map(|verb| as_user(server, "root", verb)).concat()
}

fn as_user(server: &Server, user: &str, verb: &[&str]) -> String {
    let mut command = server.etcdctl_command();
    command.args(["--user", &format!("{user}:{PASSWORD}{user}")]);
    tools::must_succeed(command.args(verb))
}

#[test]
fn users_survive_a_restart_and_the_way_to_etcd_and_back() {
    let _turn = turn::take("auth's users travel");
    let mut server = Setup::engram().flag("--bcrypt-cost=4").start();
    let token = client::runtime().block_on(async {
        make_users(server.address(), &["alice"]).await;
        let alice = Caller::user(server.address(), "alice").await;
        put(&server, &alice, "alice/1").await;
        alice.token
    });
    let told = users(&server);
    assert!(
        told.contains("alice") && told.contains("Authentication Status: true"),
        "{told}"
    );
    server.kill();
    server.start();
    assert_eq!(users(&server), told);
    assert_eq!(
        as_user(&server, "alice", &["get", "alice/1"]),
        "alice/1\nsecret\n"
    );
    // A simple token is its member's memory, as in etcd.
    client::runtime().block_on(async {
        let stale = Caller {
            token,
            ..Caller::nobody(server.address()).await
        };
        let mut client = Client::connect(server.address()).await;
        let get = engram_proto::etcdserverpb::RangeRequest {
            key: "alice/1".into(),
            ..Default::default()
        };
        let refused = client.kv.range(stale.request(get)).await;
        let refused = refused.expect_err("the token is forgotten");
        assert_eq!(refused.message(), "etcdserver: invalid auth token");
    });

    let file = server.scratch().join("snapshot.db");
    as_user(&server, "root", &["snapshot", "save", path(&file)]);
    let etcd = serve_snapshot(&file, Setup::etcd(), &tools::tool("etcdutl"));
    assert_eq!(users(&etcd), told);
    assert_eq!(
        as_user(&etcd, "alice", &["get", "alice/1"]),
        "alice/1\nsecret\n"
    );

    let file = etcd.scratch().join("snapshot.db");
    as_user(&etcd, "root", &["snapshot", "save", path(&file)]);
    let back = serve_snapshot(&file, Setup::engram(), &tools::engramctl());
    assert_eq!(users(&back), told);
    assert_eq!(
        as_user(&back, "alice", &["get", "alice/1"]),
        "alice/1\nsecret\n"
    );
    let mut nobody = back.etcdctl_command();
    let refused = tools::run(nobody.args(["get", "alice/1"]), tools::TOOL_LIMIT);
    assert!(
        refused.text().contains("etcdserver: user name is empty"),
        "{}",
        refused.text()
    );
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a temporary path is text")
}

/// A server that begins with a snapshot, which `tool` restores.
fn serve_snapshot(file: &Path, setup: Setup, tool: &Path) -> Server {
    let mut server = setup.flag("--bcrypt-cost=4").prepare();
    let data_dir: PathBuf = server.data_dir().to_path_buf();
    let mut restore = tools::command(tool);
    let peer = server.peer_url();
    restore.args(["snapshot", "restore", path(file)]).args([
        format!("--data-dir={}", data_dir.display()),
        format!("--name={}", server.name()),
        format!("--initial-cluster={}={peer}", server.name()),
        format!("--initial-advertise-peer-urls={peer}"),
    ]);
    tools::must_succeed(&mut restore);
    server.start();
    server
}
