//! CVE-2021-28235: passwords and tokens are told to nobody: no log of any level, no metric, no page, no
//! file but the hashes that the store needs.

use std::path::Path;

use engram_e2e::client;
use engram_e2e::server::Setup;
use engram_e2e::turn;
use engram_e2e::users::{Caller, PASSWORD, make_users};
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::kv_client::KvClient;
use engram_proto::etcdserverpb::{
    AuthUserChangePasswordRequest, AuthenticateRequest, PutRequest, RangeRequest,
};

#[test]
fn passwords_and_tokens_are_nowhere_to_be_read() {
    let _turn = turn::take("auth's secrets");
    let setup = Setup::engram().flag("--bcrypt-cost=4");
    // The most that is ever logged: all levels, and every call as one that took too long.
    let setup = setup.flag("--log-level=debug");
    let setup = setup.flag("--warning-unary-request-duration=1ns");
    let mut server = setup.start();
    let token = client::runtime().block_on(async {
        make_users(server.address(), &["alice"]).await;
        let root = Caller::user(server.address(), "root").await;
        let alice = Caller::user(server.address(), "alice").await;
        let mut auth = AuthClient::new(root.channel.clone());
        let change = AuthUserChangePasswordRequest {
            name: "alice".into(),
            password: format!("{PASSWORD}new"),
            ..AuthUserChangePasswordRequest::default()
        };
        let changed = auth.user_change_password(root.request(change)).await;
        changed.expect("root may");
        let wrong = AuthenticateRequest {
            name: "alice".into(),
            password: format!("{PASSWORD}wrong"),
        };
        auth.authenticate(wrong)
            .await
            .expect_err("a wrong password");
        let mut kv = KvClient::new(alice.channel.clone());
        let get = RangeRequest {
            key: "alice/k".into(),
            ..RangeRequest::default()
        };
        // Its token went with its password.
        let refused = kv.range(alice.request(get)).await.expect_err("refused");
        assert_eq!(refused.message(), "etcdserver: invalid auth token");
        let put = PutRequest {
            key: "k".into(),
            ..PutRequest::default()
        };
        kv.put(root.request(put)).await.expect("root may");
        root.token.expect("root has one")
    });
    let (prefix, _) = token.split_once('.').expect("a token's two parts");
    let metrics = server.metrics();
    for secret in [PASSWORD, prefix] {
        assert!(!metrics.contains(secret), "a metric tells it");
    }
    server.terminate();
    let output = server.output();
    assert!(
        output.contains("\"level\":\"debug\""),
        "nothing of that level"
    );
    for secret in [PASSWORD, prefix, "$2a$"] {
        let line = output.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log tells it");
    }
    assert!(!holds(server.data_dir(), PASSWORD.as_bytes()));
}

/// Whether a file under `directory` holds some bytes.
fn holds(directory: &Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .any(|path| {
            if path.is_dir() {
                return holds(&path, bytes);
            }
            let file = std::fs::read(&path).expect("a file");
            file.windows(bytes.len()).any(|window| window == bytes)
        })
}
