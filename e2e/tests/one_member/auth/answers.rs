//! etcdctl's auth verbs, and everything else as somebody, side by side with a real etcd.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use engram_e2e::client;
use engram_e2e::server::{Server, Setup};
use engram_e2e::users::Caller;
use engram_e2e::{tools, turn};
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_proto::etcdserverpb::lease_client::LeaseClient;
use engram_proto::etcdserverpb::{AuthenticateRequest, LeaseGrantRequest};

/// Grants the lease 4d, which etcdctl cannot: it takes no id.
const GRANT: &str = "grant the lease 4d";

/// Who asks, and what. Behind a bar comes what etcdctl reads.
const STEPS: &[(&str, &str)] = &[
    ("", "auth status"),
    ("", "auth enable"),
    ("", "auth disable"),
    ("root:pw", "get zz"),
    ("", "user add root:pw"),
    ("", "auth enable"),
    ("", "user grant-role root root"),
    ("", "role add r1"),
    ("", "role add r1"),
    ("", "role grant-permission r1 readwrite a b"),
    ("", "role grant-permission r1 read b c"),
    ("", "role grant-permission r1 write w"),
    ("", "role grant-permission r1 read p --prefix"),
    ("", "role grant-permission r1 read x --from-key"),
    ("", "role grant-permission r1 read d c"),
    ("", "role grant-permission none read d"),
    ("", "role get r1"),
    ("", "role get none"),
    ("", "role list"),
    ("", "user add alice:x"),
    ("", "user add alice:x"),
    ("", "user grant-role alice r1"),
    ("", "user grant-role alice r1"),
    ("", "user grant-role alice none"),
    ("", "user grant-role none r1"),
    ("", "user add nop --no-password"),
    ("", "user get alice"),
    ("", "user get alice --detail"),
    ("", "user get none"),
    ("", "user list"),
    ("", "put zz 1"),
    ("", "auth enable"),
    ("", "auth enable"),
    ("", "auth status"),
    ("", "get zz"),
    ("", "put zz 2"),
    ("root:bad", "get zz"),
    ("nobody:x", "get zz"),
    ("nop:x", "get zz"),
    ("root:pw", "get zz"),
    ("root:pw", "auth status"),
    ("alice:x", "put a1 v"),
    ("alice:x", "get a1"),
    ("alice:x", "get a c"),
    ("alice:x", "get a d"),
    ("alice:x", "put b1 v"),
    ("alice:x", "put w v"),
    ("alice:x", "put w v --prev-kv"),
    ("alice:x", "get w"),
    ("alice:x", "del w"),
    ("alice:x", "del w --prev-kv"),
    ("alice:x", "get p --prefix"),
    ("alice:x", "get x --from-key"),
    ("alice:x", "get w --from-key"),
    ("alice:x", "del a --prefix"),
    ("alice:x", "put zz 2"),
    ("alice:x", "get --prefix "),
    ("alice:x", "txn|value(\"zz\") = \"1\"\n\nget a\n\n\n"),
    (
        "alice:x",
        "txn|value(\"a1\") = \"1\"\n\nget a\n\nput zz 1\n\n",
    ),
    (
        "alice:x",
        "txn|value(\"a1\") = \"1\"\n\nput a2 v\n\nput a2 w\n\n",
    ),
    ("alice:x", "txn|value(\"a1\") = \"1\"\n\nget a\n\nget b\n\n"),
    ("alice:x", "user list"),
    ("alice:x", "user get alice"),
    ("alice:x", "user get root"),
    ("alice:x", "user add bob:x"),
    ("alice:x", "user delete root"),
    ("alice:x", "user passwd root --interactive=false|new\n"),
    ("alice:x", "role list"),
    ("alice:x", "role get r1"),
    ("alice:x", "role get root"),
    ("alice:x", "role grant-permission r1 readwrite a z"),
    ("alice:x", "auth disable"),
    ("alice:x", "auth status"),
    ("alice:x", "compact 2"),
    ("alice:x", "defrag"),
    ("alice:x", "alarm list"),
    ("alice:x", "alarm disarm"),
    ("alice:x", "endpoint hashkv"),
    ("alice:x", "move-leader 1"),
    ("alice:x", "member add m9 --peer-urls=http://127.0.0.1:9"),
    ("alice:x", "member remove 1"),
    ("alice:x", "downgrade validate 3.6"),
    ("alice:x", GRANT),
    ("alice:x", "put a1 v --lease=4d"),
    ("root:pw", "put zz v --lease=4d"),
    ("alice:x", "put a2 v --lease=4d"),
    ("alice:x", "lease timetolive 4d --keys"),
    ("alice:x", "lease revoke 4d"),
    ("alice:x", "lease keep-alive --once 4d"),
    ("alice:x", "lease list"),
    ("", "lease list"),
    ("", "lease timetolive 4d"),
    ("root:pw", "lease timetolive 4d --keys"),
    ("root:pw", "lease revoke 4d"),
    ("alice:x", "lease list"),
    ("root:pw", "user grant-role nop root"),
    ("root:pw", "user revoke-role nop root"),
    ("root:pw", "user revoke-role nop root"),
    ("root:pw", "user passwd alice --interactive=false|y\n"),
    ("alice:x", "get a1"),
    ("alice:y", "get a1"),
    ("root:pw", "role revoke-permission r1 b c"),
    ("root:pw", "role revoke-permission r1 b c"),
    ("alice:y", "get b1"),
    ("root:pw", "role get root"),
    ("root:pw", "user get root"),
    ("root:pw", "user delete root"),
    ("root:pw", "user revoke-role root root"),
    ("root:pw", "role delete root"),
    ("root:pw", "role delete r1"),
    ("alice:y", "get a1"),
    ("root:pw", "user get alice"),
    ("root:pw", "user delete alice"),
    ("alice:y", "get a1"),
    ("root:pw", "user list"),
    ("root:pw", "auth disable"),
    ("", "auth status"),
    ("", "get zz"),
    ("root:pw", "get zz"),
];

/// What is answered to [`GRANT`].
fn grant(server: &Server, who: &str) -> (bool, String) {
    let (name, password) = who.split_once(':').expect("a user's name and password");
    let granted = client::runtime().block_on(async {
        let nobody = Caller::nobody(server.address()).await;
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let token = AuthClient::new(nobody.channel.clone())
            .authenticate(request)
            .await?;
        let caller = Caller {
            token: Some(token.into_inner().token),
            ..nobody
        };
        let lease = LeaseGrantRequest { ttl: 600, id: 0x4d };
        let mut leases = LeaseClient::new(caller.channel.clone());
        leases.lease_grant(caller.request(lease)).await
    });
    let said = granted.as_ref().err().map(tonic::Status::message);
    (granted.is_ok(), said.unwrap_or_default().to_owned())
}

/// What a tool says, without what is another at each server: addresses, times, file names of Go.
fn ask(server: &Server, tool: &Path, who: &str, step: &str) -> (bool, String) {
    if step == GRANT {
        return grant(server, who);
    }
    let (line, input) = step.split_once('|').unwrap_or((step, ""));
    let mut command = tools::command(tool);
    command.arg(format!("--endpoints={}", server.address()));
    command.arg("--command-timeout=8s");
    if !who.is_empty() {
        command.args(["--user", who]);
    }
    // An empty last word is a key.
    command.args(line.split(' '));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("etcdctl starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // Who ends before reading has said why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("etcdctl ends");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).replace(&server.address().to_string(), "ADDRESS");
    let text = tools::whole_lease(&text, 600);
    // etcdctl's own log tells of its tries, with times.
    let lines = text.lines().filter(|line| !line.starts_with("{\"level\""));
    let lines: Vec<&str> = lines.collect();
    (output.status.success(), lines.join("\n"))
}

#[test]
fn etcdctl_is_answered_about_users_as_etcd_answers_it() {
    let _turn = turn::take("auth beside etcd");
    let start = |setup: Setup| setup.flag("--bcrypt-cost=4").start();
    let (etcd, engram) = (start(Setup::etcd()), start(Setup::engram()));
    let etcdctl = tools::tool("etcdctl");
    let mut differences = Vec::new();
    for (who, step) in STEPS {
        let wanted = ask(&etcd, &etcdctl, who, step);
        let said = ask(&engram, &etcdctl, who, step);
        if said != wanted {
            differences.push(format!("{who} {step}: etcd {wanted:?}, here {said:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    for server in [&etcd, &engram] {
        let log = server.output();
        assert!(log.contains("enabled authentication"), "{log}");
        assert!(log.contains("disabled authentication"), "{log}");
    }
}

#[test]
fn engramctl_says_of_users_what_etcdctl_says() {
    let _turn = turn::take("engramctl's users");
    let start = || Setup::engram().flag("--bcrypt-cost=4").start();
    let (one, other) = (start(), start());
    let (etcdctl, engramctl) = (tools::tool("etcdctl"), tools::engramctl());
    let verbs = ["auth", "user", "role", "get", "put", "del"];
    let mut differences = Vec::new();
    for (who, step) in STEPS {
        let verb = step.split(' ').next().unwrap_or_default();
        if !verbs.contains(&verb) || step.contains("--lease") {
            continue;
        }
        let wanted = ask(&one, &etcdctl, who, step);
        let said = ask(&other, &engramctl, who, step);
        if said != wanted {
            differences.push(format!(
                "{who} {step}: etcdctl {wanted:?}, engramctl {said:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
