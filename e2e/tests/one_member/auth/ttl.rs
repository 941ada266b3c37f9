//! `--auth-token-ttl`: a simple token lives for as long as it is shown, and so long after.

use std::time::Duration;

use engram_e2e::client;
use engram_e2e::server::Setup;
use engram_e2e::turn;
use engram_e2e::users::{Caller, make_users};

use super::jwt::{get, refused};

const TTL: Duration = Duration::from_secs(3);

#[test]
fn a_token_that_nobody_shows_ends() {
    let _turn = turn::take("auth token ttl");
    let runtime = client::runtime();
    let start = |setup: Setup| {
        let setup = setup.flag("--bcrypt-cost=4");
        setup
            .flag(format!("--auth-token-ttl={}", TTL.as_secs()))
            .start()
    };
    let servers = [start(Setup::etcd()), start(Setup::engram())];
    let story = async |server| {
        make_users(engram_e2e::server::Server::address(server), &["alice"]).await;
        let alice = Caller::user(engram_e2e::server::Server::address(server), "alice").await;
        let token = alice.token.expect("a token");
        for _ in 0..3 {
            tokio::time::sleep(TTL / 2).await;
            let read = get(server, &token, "alice/1").await;
            read.expect("it is shown often enough");
        }
        tokio::time::sleep(TTL + Duration::from_secs(2)).await;
        refused(server, &token, "alice/1").await
    };
    let [theirs, ours] = &servers;
    let said = runtime.block_on(async { tokio::join!(story(theirs), story(ours)) });
    assert_eq!(said.0, said.1);
    assert_eq!(said.1, "etcdserver: invalid auth token");
}
