//! What kubectl itself does, told with what it needs of a cluster: logs, and engramctl beside a member with its
//! certificates. kubectl is there, since it called.

use std::io::IsTerminal as _;
use std::process::{Command, ExitCode};

use kube::ResourceExt as _;

use engram_operator::api::{EngramCluster, EngramMember, MemberRole, TlsMode};
use engram_operator::desired::{CLIENT_PORT, CLIENT_TLS, MEMBER_CONTAINER, PROGRAM, member_query};

use super::{Cli, Failure};

/// The logs that are followed at once: more than a cluster has members.
const LOGS_MAX: u32 = 32;

/// Which logs.
#[derive(clap::Args)]
pub(super) struct Logs {
    /// The cluster.
    pub cluster: String,
    /// One member, such as demo-2; default: all of them.
    pub member: Option<String>,
    /// The last lines of each.
    #[arg(long, default_value_t = 200)]
    pub tail: u32,
    /// Goes on with what is said from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// What was said before the last restart.
    #[arg(short, long)]
    pub previous: bool,
}

/// kubectl's words for logs.
pub(super) fn logs(wanted: &Logs) -> Vec<String> {
    let container = format!("--container={MEMBER_CONTAINER}");
    let mut words = vec!["logs".to_owned(), container];
    match &wanted.member {
        Some(member) => words.push(member.clone()),
        None => words.extend([
            format!("--selector={}", member_query(&wanted.cluster)),
            "--prefix".to_owned(),
            format!("--max-log-requests={LOGS_MAX}"),
        ]),
    }
    words.push(format!("--tail={}", wanted.tail));
    words.extend(wanted.follow.then(|| "--follow".to_owned()));
    words.extend(wanted.previous.then(|| "--previous".to_owned()));
    words
}

/// The member that is best asked: who leads, else whoever votes, else any.
fn best<'a>(cluster: &EngramCluster, members: &'a [EngramMember]) -> Option<&'a EngramMember> {
    let name = cluster.name_any();
    let rank = |member: &&EngramMember| {
        let status = member.status.as_ref();
        let away = status.is_none_or(|status| status.away_since.is_some());
        let role = match status.and_then(|status| status.role) {
            Some(MemberRole::Leader) => 0,
            Some(MemberRole::Follower) => 1,
            _ => 2,
        };
        (away, role)
    };
    let own = members.iter();
    let own = own.filter(|member| member.spec.cluster_ref.name == name);
    own.min_by_key(rank)
}

/// kubectl's words for engramctl, with the words that it is given, beside a member.
pub(super) fn etcdctl(
    cluster: &EngramCluster,
    members: &[EngramMember],
    words: &[String],
    terminal: bool,
) -> Result<Vec<String>, Failure> {
    let name = cluster.name_any();
    let nobody = || Failure::Input(format!("EngramCluster {name} has no member to ask"));
    let member = best(cluster, members).ok_or_else(nobody)?;
    let tls = cluster.spec.tls.client.mode != TlsMode::Disabled;
    let scheme = if tls { "https" } else { "http" };
    let mut all: Vec<String> = ["exec", "--stdin"].map(str::to_owned).into();
    all.extend(terminal.then(|| "--tty".to_owned()));
    all.push(member.name_any());
    all.push(format!("--container={MEMBER_CONTAINER}"));
    all.extend(["--", PROGRAM].map(str::to_owned));
    all.push(format!("--endpoints={scheme}://localhost:{CLIENT_PORT}"));
    if tls {
        for (flag, file) in [
            ("cacert", "ca.crt"),
            ("cert", "tls.crt"),
            ("key", "tls.key"),
        ] {
            all.push(format!("--{flag}={CLIENT_TLS}/{file}"));
        }
    }
    all.extend(words.iter().cloned());
    Ok(all)
}

/// Has kubectl do it, in the namespace and context that were named, and ends as it does.
pub(super) fn kubectl(cli: &Cli, namespace: &str, words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut command = Command::new("kubectl");
    command.arg(format!("--namespace={namespace}"));
    if let Some(context) = &cli.context {
        command.arg(format!("--context={context}"));
    }
    let status = command.args(words).status();
    let status = status.map_err(|error| Failure::File("kubectl".into(), error))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whether somebody types.
pub(super) fn somebody_types() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cluster(spec: &Value) -> EngramCluster {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo" }, "spec": spec,
        }))
        .unwrap()
    }

    fn member(cluster: &str, number: u32, status: &Value) -> EngramMember {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember",
            "metadata": { "name": format!("{cluster}-{number}") },
            "spec": { "clusterRef": { "name": cluster }, "origin": "Join", "peerURL": "https://x" },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn engramctl_runs_beside_the_leader_with_the_members_certificates() {
        let away = "2026-01-01T00:00:00Z";
        let members = [
            member("other", 1, &json!({ "role": "Leader" })),
            member("demo", 1, &json!({ "role": "Leader", "awaySince": away })),
            member("demo", 2, &json!({ "role": "Learner" })),
            member("demo", 3, &json!({ "role": "Follower" })),
        ];
        let words = ["endpoint".to_owned(), "status".to_owned()];
        let all = etcdctl(&cluster(&json!({})), &members, &words, false).unwrap();
        assert_eq!(
            all.join(" "),
            "exec --stdin demo-3 --container=engram -- /usr/local/bin/engramctl \
             --endpoints=https://localhost:2379 --cacert=/etc/engram/tls/client/ca.crt \
             --cert=/etc/engram/tls/client/tls.crt --key=/etc/engram/tls/client/tls.key endpoint status"
        );
        let plain = cluster(&json!({ "tls": { "client": { "mode": "Disabled" } } }));
        let all = etcdctl(&plain, &members, &[], true).unwrap().join(" ");
        assert!(all.starts_with("exec --stdin --tty demo-3"), "{all}");
        assert!(all.ends_with("--endpoints=http://localhost:2379"), "{all}");
        let nobody = etcdctl(&plain, &members[..1], &[], false).unwrap_err();
        assert_eq!(
            nobody.to_string(),
            "EngramCluster demo has no member to ask"
        );
    }

    #[test]
    fn logs_are_all_members_or_ones() {
        let mut wanted = Logs {
            cluster: "demo".into(),
            member: None,
            tail: 5,
            follow: true,
            previous: false,
        };
        assert_eq!(
            logs(&wanted).join(" "),
            "logs --container=engram --selector=app.kubernetes.io/component=member,engram.dev/cluster=demo \
             --prefix --max-log-requests=32 --tail=5 --follow"
        );
        (wanted.member, wanted.follow, wanted.previous) = (Some("demo-2".into()), false, true);
        let words = logs(&wanted).join(" ");
        assert_eq!(words, "logs --container=engram demo-2 --tail=5 --previous");
    }
}
