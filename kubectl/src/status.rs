//! A cluster at a glance: whether it serves, what is wrong, what the operator does and waits for. Pure.

use std::fmt::Write as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use engram_operator::api::{
    ConditionKind, EngramBackup, EngramCluster, EngramClusterStatus, EngramMember, condition,
    is_true,
};

/// A certificate that ends sooner than this is spoken of, in seconds.
const ENDS_SOON: i64 = 14 * 24 * 3600;

/// How long ago, or how long yet, in the largest unit that is not zero.
fn span(seconds: i64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let fits = units.iter().find(|(size, _)| seconds.abs() >= *size);
    match fits {
        Some((size, unit)) => format!("{}{unit}", seconds.abs() / size),
        None => format!("{}s", seconds.abs()),
    }
}

fn ago(time: &Time, now: i64) -> String {
    format!("{} ago", span(now - time.0.as_second()))
}

/// All of it, at `now` in seconds since 1970.
pub(super) fn render(
    cluster: &EngramCluster,
    members: &[EngramMember],
    backups: &[EngramBackup],
    now: i64,
) -> String {
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    let mut text = String::new();
    let rests = cluster.spec.replicas == 0;
    let _ = writeln!(text, "{name}: {}", headline(&status, rests));
    for (kind, what) in [
        (ConditionKind::Degraded, "wrong"),
        (ConditionKind::Progressing, "under way"),
    ] {
        let found = condition(&status.conditions, kind).filter(|one| one.status == "True");
        if let Some(one) = found {
            let since = ago(&one.last_transition_time, now);
            let _ = writeln!(
                text,
                "  {what}: {} ({}, since {since})",
                one.message, one.reason
            );
        }
    }
    if status.observed_generation != cluster.metadata.generation {
        let _ = writeln!(text, "  the operator has not seen the last change yet");
    }
    if cluster.spec.paused {
        let _ = writeln!(text, "  paused: nothing is changed");
    }
    if !status.alarms.is_empty() {
        let _ = writeln!(text, "  alarms: {}", status.alarms.join(", "));
    }
    figures(&mut text, &status);
    let own = |member: &&EngramMember| member.spec.cluster_ref.name == name;
    for member in members.iter().filter(own) {
        let _ = writeln!(text, "  {}", line(member, now));
    }
    for one in &status.certificates {
        let left = one.not_after.0.as_second() - now;
        let name = &one.name;
        let _ = match left {
            ..=0 => writeln!(text, "  certificate {name} HAS ENDED, {} ago", span(left)),
            1..ENDS_SOON => writeln!(text, "  certificate {name} ends in {}", span(left)),
            _ => Ok(()),
        };
    }
    let _ = writeln!(text, "  {}", backed_up(&name, &status, backups, now));
    text
}

/// Whether it serves, and how many of its members.
fn headline(status: &EngramClusterStatus, rests: bool) -> String {
    let holds = |kind| is_true(&status.conditions, kind);
    let available = holds(ConditionKind::Available);
    let serves = match (available, holds(ConditionKind::QuorumAvailable)) {
        (true, _) => "serves reads and writes",
        (false, true) => "serves reads, not every write",
        (false, false) if rests => "rests, with its data kept",
        (false, false) => "DOES NOT SERVE",
    };
    let ready = status.ready.as_deref().unwrap_or("no");
    let word = condition(&status.conditions, ConditionKind::Ready);
    let word = word.map_or("not looked at yet", |one| one.reason.as_str());
    format!("{serves}, {ready} members ready ({word})")
}

fn figures(text: &mut String, status: &EngramClusterStatus) {
    let leader = status
        .leader
        .as_ref()
        .map_or("nobody", |one| one.member.as_str());
    let version = status.version.as_deref().unwrap_or("unknown");
    let _ = write!(text, "  leader {leader}, version {version}");
    if let Some(quorum) = &status.quorum {
        let (healthy, voters, more) = (quorum.healthy, quorum.voters, quorum.tolerates);
        let _ = write!(
            text,
            ", {healthy} of {voters} voters answer, {more} more may fail"
        );
    }
    if let Some(bytes) = status.db_size_bytes {
        let _ = write!(text, ", {} MiB", bytes / (1 << 20));
    }
    let _ = writeln!(text);
}

/// A member, in a line.
fn line(member: &EngramMember, now: i64) -> String {
    let status = member.status.clone().unwrap_or_default();
    let role = status.role.map(|role| format!("{role:?}"));
    let role = role.unwrap_or_else(|| "not listed".to_owned());
    let node = status.node.as_deref().unwrap_or("no node");
    let mut text = format!("{:<20} {role:<10} {node}", member.name_any());
    if member.metadata.deletion_timestamp.is_some() {
        text.push_str(", is taken out");
    }
    let ready = condition(&status.conditions, ConditionKind::Ready);
    if let Some(ready) = ready.filter(|one| one.status != "True") {
        let _ = write!(text, ", {}", ready.message);
    }
    if let Some(since) = &status.away_since {
        let _ = write!(text, ", away since {}", ago(since, now));
    }
    if let Some(since) = &status.node_lost_since {
        let _ = write!(text, ", its node lost {}", ago(since, now));
    }
    if let Some(learner) = &status.catching_up {
        let _ = write!(text, ", has applied {}", learner.applied);
    }
    text
}

fn backed_up(
    name: &str,
    status: &EngramClusterStatus,
    backups: &[EngramBackup],
    now: i64,
) -> String {
    let last = match &status.last_backup {
        Some(last) => format!(
            "last backup {} ({})",
            ago(&last.completed_at, now),
            last.name
        ),
        None => "NO BACKUP".to_owned(),
    };
    let failed = backups.iter().filter(|backup| {
        let phase = backup.status.as_ref().and_then(|status| status.phase);
        backup.spec.cluster_ref.name == name
            && phase == Some(engram_operator::api::BackupPhase::Failed)
    });
    match failed.count() {
        0 => last,
        count => format!("{last}, {count} failed"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> EngramCluster {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo", "namespace": "data", "generation": 3 },
            "spec": {},
            "status": {
                "observedGeneration": 3, "ready": "2/3", "version": "0.1.0",
                "leader": { "member": "demo-1", "memberID": "7" },
                "quorum": { "voters": 3, "healthy": 2, "tolerates": 0 },
                "alarms": ["CORRUPT demo-3"],
                "certificates": [{ "name": "demo-server-tls", "notAfter": "2026-01-03T00:00:00Z" }],
                "conditions": [
                    condition("Ready", "False", "Corrupt", ""),
                    condition("Available", "True", "AsExpected", ""),
                    condition("Degraded", "True", "Corrupt", "demo-3 differs and is replaced"),
                    condition("Progressing", "False", "AsExpected", ""),
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn on_the_worst_day_it_says_what_is_wrong_and_what_is_done() {
        let member: EngramMember = serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramMember",
            "metadata": { "name": "demo-3", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "clusterRef": { "name": "demo" }, "origin": "Join", "peerURL": "https://x" },
            "status": {
                "initialized": true, "role": "Follower", "node": "worker-2",
                "awaySince": "2026-01-01T00:00:00Z",
            },
        }))
        .unwrap();
        let now = 1_767_225_600 + 7200;
        let text = render(&cluster(), &[member], &[], now);
        for words in [
            "demo: serves reads and writes, 2/3 members ready (Corrupt)",
            "wrong: demo-3 differs and is replaced (Corrupt, since 2h ago)",
            "alarms: CORRUPT demo-3",
            "leader demo-1, version 0.1.0, 2 of 3 voters answer, 0 more may fail",
            "Follower   worker-2, is taken out, away since 2h ago",
            "certificate demo-server-tls ends in 1d",
            "NO BACKUP",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        assert!(!text.contains("under way"), "{text}");
    }

    #[test]
    fn one_that_rests_is_no_outage_and_a_certificate_that_has_ended_is_one() {
        let mut cluster = cluster();
        cluster.spec.replicas = 0;
        let status = cluster.status.as_mut().unwrap();
        status.conditions.retain(|one| one.type_ != "Available");
        let text = render(&cluster, &[], &[], 1_767_225_600 + 5 * 86_400);
        assert!(
            text.starts_with("demo: rests, with its data kept"),
            "{text}"
        );
        let ended = "certificate demo-server-tls HAS ENDED, 3d ago";
        assert!(text.contains(ended), "{text}");
    }

    #[test]
    fn one_that_was_never_looked_at_is_said_to_be_so() {
        let mut cluster = cluster();
        cluster.status = None;
        let text = render(&cluster, &[], &[], 0);
        assert!(text.starts_with("demo: DOES NOT SERVE, no members ready (not looked at yet)"));
        assert!(text.contains("the operator has not seen the last change yet"));
    }
}
