//! What is counted of a cluster, for its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{EngramCluster, EngramClusterStatus, LeaderStatus, QuorumStatus};
use crate::desired::{Names, member_query};
use crate::plan::Entry;

use super::Report;

/// Sets them.
pub(super) fn figures(
    cluster: &EngramCluster,
    report: &Report<'_>,
    status: &mut EngramClusterStatus,
) {
    let observed = &report.sight.observed;
    let names = Names::of(cluster);
    let small = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    status.members = small(observed.members.len());
    status.ready_members = small(
        observed
            .members
            .iter()
            .filter(|member| member.is_ready())
            .count(),
    );
    status.ready = Some(format!(
        "{}/{}",
        status.ready_members, cluster.spec.replicas
    ));
    status.selector = Some(member_query(&names.cluster));
    status.endpoints = vec![names.endpoint()];
    status.certificates.clone_from(&report.certificates.ends);
    let hour_ago = observed.now - 3600;
    status
        .replacements
        .retain(|Time(time)| time.as_second() > hour_ago);
    let asked = &report.sight.asked;
    status.leader = asked.leading().map(|(member, _)| LeaderStatus {
        member: member.to_owned(),
        member_id: format!("{:x}", asked.leader.unwrap_or_default()),
    });
    if let Some(answer) = asked
        .leading()
        .and_then(|(member, _)| asked.answers.get(member))
    {
        status.version = Some(answer.version.clone());
        status.revision = Some(answer.revision);
        status.db_size_bytes = Some(answer.db_size);
    }
    let alarm = |(kind, id): &(i32, u64)| {
        let entry = observed
            .roster
            .as_ref()
            .and_then(|roster| roster.entries.iter().find(|e| e.id == *id));
        let member = entry.map_or_else(|| format!("{id:x}"), |entry| entry.member.clone());
        let kind = if *kind == 1 { "NOSPACE" } else { "CORRUPT" };
        format!("{kind} {member}")
    };
    status.alarms = asked.alarms.iter().map(alarm).collect();
    status.quorum = observed.roster.as_ref().map(|roster| {
        let voters = roster.voters().count();
        let answers = |entry: &&Entry| {
            observed
                .member(&entry.member)
                .is_some_and(|member| member.healthy)
        };
        let healthy = roster.voters().filter(answers).count();
        let tolerates = small(healthy) - small(voters / 2 + 1);
        QuorumStatus {
            voters: small(voters),
            healthy: small(healthy),
            tolerates: tolerates.max(0),
        }
    });
}
