//! JSON Web Tokens: what a real etcd signs counts here, and the other way round.

use std::path::Path;

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use engram_e2e::users::{Caller, make_users};
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::{AuthRoleAddRequest, RangeRequest};
use rcgen::KeyPair;
use tonic::Status;

/// The methods, each with a key of its kind; none: any secret.
fn methods() -> Vec<(&'static str, Option<KeyPair>)> {
    let key = |algorithm| Some(KeyPair::generate_for(algorithm).expect("a key"));
    vec![
        ("HS256", None),
        ("RS256", key(&rcgen::PKCS_RSA_SHA256)),
        ("PS512", key(&rcgen::PKCS_RSA_SHA256)),
        ("ES384", key(&rcgen::PKCS_ECDSA_P384_SHA384)),
        ("EdDSA", key(&rcgen::PKCS_ED25519)),
    ]
}

fn flag(dir: &Path, method: &str, key: Option<&KeyPair>) -> String {
    let (private, public) = (dir.join("private.pem"), dir.join("public.pem"));
    let text = key.map_or_else(|| "a secret".to_owned(), KeyPair::serialize_pem);
    std::fs::write(&private, text).expect("a scratch file");
    let flag = format!(
        "--auth-token=jwt,sign-method={method},priv-key={},ttl=1m",
        private.display()
    );
    let Some(key) = key else { return flag };
    std::fs::write(&public, key.public_key_pem()).expect("a scratch file");
    format!("{flag},pub-key={}", public.display())
}

pub(super) async fn get(server: &Server, token: &str, key: &str) -> Result<(), Status> {
    let who = Caller {
        token: Some(token.to_owned()),
        ..Caller::nobody(server.address()).await
    };
    let mut client = Client::connect(server.address()).await;
    let get = RangeRequest {
        key: key.as_bytes().to_vec().into(),
        ..RangeRequest::default()
    };
    client.kv.range(who.request(get)).await.map(drop)
}

pub(super) async fn refused(server: &Server, token: &str, key: &str) -> String {
    let refused = get(server, token, key).await.expect_err("a refusal");
    refused.message().to_owned()
}

#[test]
fn tokens_of_etcd_count_here_and_ours_there() {
    let _turn = turn::take("JWT beside etcd");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let runtime = client::runtime();
    for (method, key) in methods() {
        let flag = flag(scratch.path(), method, key.as_ref());
        let start = |setup: Setup| setup.flag("--bcrypt-cost=4").flag(flag.clone()).start();
        let servers = [start(Setup::etcd()), start(Setup::engram())];
        runtime.block_on(async {
            let mut tokens = Vec::new();
            for server in &servers {
                make_users(server.address(), &["alice"]).await;
                let alice = Caller::user(server.address(), "alice").await;
                tokens.push(alice.token.expect("a token"));
            }
            let changed = |token: &str| {
                let (signed, _) = token.rsplit_once('.').expect("three parts");
                format!("{signed}.{}", "A".repeat(86))
            };
            for server in &servers {
                for token in &tokens {
                    let read = get(server, token, "alice/1").await;
                    read.unwrap_or_else(|error| panic!("{method}: {error}"));
                    let denied = "etcdserver: permission denied";
                    assert_eq!(refused(server, token, "bob").await, denied, "{method}");
                    let invalid = "etcdserver: invalid auth token";
                    assert_eq!(refused(server, &changed(token), "alice/1").await, invalid);
                }
                // It tells which users it was made for.
                let root = Caller::user(server.address(), "root").await;
                let mut auth = AuthClient::new(root.channel.clone());
                let role = AuthRoleAddRequest { name: "new".into() };
                let added = auth.role_add(root.request(role)).await;
                added.expect("root may");
                let old = "etcdserver: revision of auth store is old";
                assert_eq!(refused(server, &tokens[0], "alice/1").await, old);
            }
        });
    }
}
