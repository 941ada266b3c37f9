//! Every call of the descriptors, by everybody, on Engram and on a real etcd: the same codes and texts.

use std::collections::BTreeMap;

use engram_e2e::client;
use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;
use engram_e2e::users::{Caller, make_users};
use engram_proto::etcdserverpb::AuthDisableRequest;
use engram_proto::etcdserverpb::auth_client::AuthClient;
use prost_reflect::MethodDescriptor;
use tonic_prost::prost::Message as _;

use super::matrix::{self, Access, MAY, MAY_NOT, Matrix};

/// What was answered: the code and the text of a refusal, or none.
type Said = Option<(i32, String)>;
/// By call, message and who made it.
type All = BTreeMap<String, Said>;

/// Answers that differ on purpose: how the row begins, who asks, and why.
const APART: &[(&str, &str, &str)] = &[
    (
        "etcdserverpb.Auth.UserGet",
        "nobody of \"\"",
        "etcd takes who has no name for the user without one, and looks for it",
    ),
    (
        "etcdserverpb.Cluster.MemberAdd",
        "",
        "who may not is told so; etcd looks at the URLs first",
    ),
    (
        "v3electionpb.Election.Observe",
        "",
        "who may not is told so; etcd says nothing, and tries for ever",
    ),
];

/// Whether a row may differ, and how: Engram refuses for who asks.
fn is_apart(row: &str, got: &Said) -> bool {
    const WHO: [&str; 3] = [
        "etcdserver: permission denied",
        "etcdserver: user name is empty",
        "etcdserver: invalid auth token",
    ];
    let is_of_who = got
        .as_ref()
        .is_some_and(|(_, text)| WHO.contains(&text.as_str()));
    let known = |(begin, who, _): &(&str, &str, &str)| row.starts_with(begin) && row.contains(who);
    is_of_who && APART.iter().any(known)
}

struct Asked<'s> {
    matrix: Matrix<'s>,
    said: All,
}

/// When it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum While {
    On,
    Off,
}

impl Asked<'_> {
    async fn by_everybody(&mut self, method: &MethodDescriptor, when: While) {
        let callers = [
            ("nobody", self.matrix.nobody.clone()),
            ("stranger", self.matrix.stranger.clone()),
            ("may not", self.matrix.may_not.clone()),
            ("may", self.matrix.may.clone()),
            ("root", self.matrix.root.clone()),
        ];
        for (who, caller) in &callers {
            let is_allowed = *who == "root" || when == While::Off;
            // The one would end it too soon, the other begin it again.
            if ["AuthDisable", "AuthEnable"].contains(&method.name()) && is_allowed {
                continue;
            }
            for (of, message) in self.messages(method, is_allowed).await {
                let said = ask(method, caller, message).await;
                let row = format!("{} {who} {of} {when:?}", method.full_name());
                self.said.insert(row, said);
            }
        }
    }

    /// For each way in which a call names something: a message of the user's own, and of another's.
    /// Made for each caller: who waits for a lock would wait for the one before.
    async fn messages(
        &mut self,
        method: &MethodDescriptor,
        is_allowed: bool,
    ) -> Vec<(String, Vec<u8>)> {
        let input = method.input();
        let mut messages = Vec::new();
        if matrix::access(method) != Access::Keys {
            // Whoever may do it must not do it to those who ask.
            let texts: &[&str] = match is_allowed {
                true => &["", "matrix"],
                false => &["", MAY, MAY_NOT, "root", "matrix"],
            };
            for text in texts {
                let filled = matrix::filled(method, text).encode_to_vec();
                messages.push((format!("of {text:?}"), filled));
            }
            return messages;
        }
        for path in matrix::paths(&input, method, 0) {
            let shown = matrix::shown(&path);
            let (own, others) = self.matrix.named(method, &path).await;
            let all = std::iter::once(own).chain(others);
            for (number, named) in all.enumerate() {
                let message = matrix::build(&input, method, &path, &named);
                messages.push((format!("{shown} {number}"), message.encode_to_vec()));
            }
        }
        messages
    }
}

async fn ask(method: &MethodDescriptor, who: &Caller, message: Vec<u8>) -> Said {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let answer = who.call(&path, message.into(), method.is_client_streaming());
    match answer.await {
        Ok(message) if method.full_name() == "etcdserverpb.Watch.Watch" => {
            let response = engram_proto::etcdserverpb::WatchResponse::decode(message);
            let reason = response.expect("a watch's response").cancel_reason;
            (!reason.is_empty()).then_some((0, reason))
        }
        Ok(_) => None,
        Err(status) => Some((status.code() as i32, status.message().to_owned())),
    }
}

async fn asked(server: &Server) -> All {
    make_users(server.address(), &[MAY, MAY_NOT]).await;
    let mut asked = Asked {
        matrix: Matrix::of(server).await,
        said: All::new(),
    };
    let methods = matrix::methods();
    for method in &methods {
        asked.by_everybody(method, While::On).await;
    }
    let root = asked.matrix.root.clone();
    let mut auth = AuthClient::new(root.channel.clone());
    let disabled = auth.auth_disable(root.request(AuthDisableRequest {}));
    disabled.await.expect("root may");
    for method in &methods {
        asked.by_everybody(method, While::Off).await;
    }
    asked.said
}

#[test]
fn every_call_is_answered_to_everybody_as_by_a_real_etcd() {
    let _turn = turn::take("users beside etcd");
    let all = [Setup::etcd(), Setup::engram()].map(|setup| {
        let server = setup.flag("--bcrypt-cost=4").start();
        client::runtime().block_on(asked(&server))
    });
    let [wanted, got] = all;
    let mut differ = Vec::new();
    for (row, wanted) in &wanted {
        let got = &got[row];
        if got != wanted && !is_apart(row, got) {
            differ.push(format!("{row}: {got:?}, etcd: {wanted:?}"));
        }
    }
    println!(
        "{} calls by somebody, {} of them beside etcd the same",
        wanted.len(),
        wanted.len() - differ.len()
    );
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(wanted.len() > 1000, "{}", wanted.len());
}
