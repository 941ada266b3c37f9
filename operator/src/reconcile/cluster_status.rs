//! What is said of a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::api::{
    BackupPhase, ConditionKind as Kind, EngramBackup, EngramCluster, EngramClusterStatus,
    LastBackup, LeaderStatus, QuorumStatus, Reason, same_conditions, set_condition,
};
use crate::build::{Names, member_selector};
use crate::observe::{Sight, last_words, stuck};
use crate::plan::Plan;

use super::certificates::Certificates;
use super::{Context, Error, now};

/// How much of a failing container's words is shown.
const WORDS_MAX: usize = 400;
/// The revision and the size are written when they have changed by more than a hundredth: a busy
/// cluster's status is not rewritten every few seconds.
const NOTEWORTHY: i64 = 100;

/// What a pass found.
pub(super) struct Report<'a> {
    pub sight: &'a Sight,
    pub plan: &'a Plan,
    pub certificates: &'a Certificates,
    pub space: Option<String>,
    pub failure: Option<&'a Error>,
    pub image: &'a str,
}

/// Whether a status has to be written.
pub(super) fn has_changed(before: &EngramClusterStatus, after: &EngramClusterStatus) -> bool {
    let mut same_times = after.clone();
    same_times.conditions.clone_from(&before.conditions);
    let moved = |before: Option<i64>, after: Option<i64>| match (before, after) {
        (Some(before), Some(after)) => (after - before).abs() > before.abs() / NOTEWORTHY,
        (before, after) => before != after,
    };
    let figures =
        moved(before.revision, after.revision) || moved(before.db_size_bytes, after.db_size_bytes);
    same_times.revision = before.revision;
    same_times.db_size_bytes = before.db_size_bytes;
    figures || same_times != *before || !same_conditions(&before.conditions, &after.conditions)
}

/// A pass ended early.
pub(super) fn failed(cluster: &EngramCluster, error: &Error, status: &mut EngramClusterStatus) {
    let reason = error.reason();
    let generation = cluster.metadata.generation;
    let mut set = |kind, holds| {
        let text = error.to_string();
        set_condition(
            &mut status.conditions,
            kind,
            holds,
            reason,
            text,
            generation,
            now(),
        );
    };
    set(Kind::Degraded, true);
    if reason == Reason::CertificateInvalid {
        set(Kind::TLSReady, false);
    }
    if matches!(error, Error::Input { .. }) {
        set(Kind::Ready, false);
        status.observed_generation = generation;
    }
}

/// Says what was found.
pub(super) async fn report(
    context: &Context,
    cluster: &EngramCluster,
    report: &Report<'_>,
    status: &mut EngramClusterStatus,
) -> Result<(), Error> {
    figures(cluster, report, status);
    status.last_backup = last_backup(context, cluster)
        .await?
        .or(status.last_backup.take());
    conditions(cluster, report, status);
    count(context, cluster, report, status);
    status.observed_generation = cluster.metadata.generation;
    Ok(())
}

fn figures(cluster: &EngramCluster, report: &Report<'_>, status: &mut EngramClusterStatus) {
    let observed = &report.sight.observed;
    let names = Names::of(cluster);
    let small = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    status.members = small(observed.members.len());
    status.ready_members = small(
        observed
            .members
            .iter()
            .filter(|member| member.healthy)
            .count(),
    );
    status.ready = Some(format!(
        "{}/{}",
        status.ready_members, cluster.spec.replicas
    ));
    let selector = member_selector(&names.cluster);
    let selector: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    status.selector = Some(selector.join(","));
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
        let answers = |entry: &&crate::plan::Entry| {
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

async fn last_backup(
    context: &Context,
    cluster: &EngramCluster,
) -> Result<Option<LastBackup>, Error> {
    let names = Names::of(cluster);
    let api: Api<EngramBackup> = Api::namespaced(context.client.clone(), &names.namespace);
    let own = ListParams::default().fields(&format!("spec.clusterRef.name={}", names.cluster));
    let completed = api
        .list(&own)
        .await?
        .items
        .into_iter()
        .filter_map(|backup| {
            let status = backup.status.as_ref()?;
            let completed_at = status.completed_at.clone()?;
            (status.phase == Some(BackupPhase::Completed)).then(|| LastBackup {
                name: backup.name_any(),
                completed_at,
                revision: status.revision,
            })
        });
    Ok(completed.max_by_key(|one| one.completed_at.0))
}

fn conditions(cluster: &EngramCluster, report: &Report<'_>, status: &mut EngramClusterStatus) {
    let observed = &report.sight.observed;
    let plan = report.plan;
    let generation = cluster.metadata.generation;
    let rests = cluster.spec.replicas == 0;
    let all = usize::try_from(cluster.spec.replicas).is_ok_and(|wanted| {
        let voters = observed
            .roster
            .as_ref()
            .map_or(0, |roster| roster.voters().count());
        observed.members.len() == wanted && (rests || voters == wanted)
    });
    let healthy = observed.members.iter().all(|member| member.healthy);
    let outdated = observed
        .members
        .iter()
        .any(|member| member.pod.as_ref().is_some_and(|pod| pod.outdated));
    let serves = observed.roster.is_some();
    let progress = plan.progress.clone();
    let trouble = trouble(report);
    let message = |fallback: &str| {
        let said = trouble.as_ref().map(|(_, text)| text.clone());
        said.or_else(|| progress.as_ref().map(|note| note.message.clone()))
            .unwrap_or_else(|| fallback.into())
    };
    let mut set = |kind: Kind, holds: bool, reason: Reason, message: String| {
        set_condition(
            &mut status.conditions,
            kind,
            holds,
            reason,
            message,
            generation,
            now(),
        );
    };
    let degraded = trouble.as_ref().map(|(reason, _)| *reason);
    let moving = progress.as_ref().map(|note| note.reason);
    let word = degraded.or(moving);
    let ready = serves && all && healthy && !outdated && degraded.is_none() && !rests;
    match (ready, rests) {
        (true, _) => set(
            Kind::Ready,
            true,
            Reason::AllMembersReady,
            "every member is ready".into(),
        ),
        (false, true) => set(
            Kind::Ready,
            false,
            Reason::Hibernated,
            message("the cluster rests"),
        ),
        (false, false) => set(
            Kind::Ready,
            false,
            word.unwrap_or(Reason::MemberNotReady),
            message("not every member is ready"),
        ),
    }
    let available = if serves {
        Reason::AsExpected
    } else if rests {
        Reason::Hibernated
    } else {
        word.unwrap_or(Reason::QuorumLost)
    };
    set(
        Kind::Available,
        serves,
        available,
        if serves {
            "reads and writes are served".into()
        } else {
            message("no quorum answers")
        },
    );
    set(
        Kind::QuorumAvailable,
        serves,
        available,
        if serves {
            "a quorum answers".into()
        } else {
            message("no quorum answers")
        },
    );
    set(
        Kind::Progressing,
        moving.is_some(),
        moving.unwrap_or(Reason::AsExpected),
        progress
            .as_ref()
            .map_or_else(String::new, |note| note.message.clone()),
    );
    set(
        Kind::Degraded,
        degraded.is_some(),
        degraded.unwrap_or(Reason::AsExpected),
        trouble
            .as_ref()
            .map_or_else(String::new, |(_, text)| text.clone()),
    );
    let away: Vec<&str> = observed
        .members
        .iter()
        .filter(|m| !m.healthy)
        .map(|m| m.name.as_str())
        .collect();
    let reason = if healthy {
        Reason::AsExpected
    } else {
        Reason::MemberNotReady
    };
    set(
        Kind::MembersHealthy,
        healthy,
        reason,
        if healthy {
            String::new()
        } else {
            format!("{} does not answer", away.join(", "))
        },
    );
    let reason = if outdated {
        Reason::RollingUpdate
    } else {
        Reason::AsExpected
    };
    set(
        Kind::UpToDate,
        !outdated,
        reason,
        format!("members run {}", report.image),
    );
    set(Kind::TLSReady, true, Reason::AsExpected, String::new());
    let space = report.space.is_none();
    set(
        Kind::StorageHealthy,
        space,
        if space {
            Reason::AsExpected
        } else {
            Reason::NoSpace
        },
        report.space.clone().unwrap_or_default(),
    );
    let paused = cluster.spec.paused;
    set(
        Kind::Paused,
        paused,
        if paused {
            Reason::Paused
        } else {
            Reason::AsExpected
        },
        String::new(),
    );
}

/// What needs a person, or more time than it should.
fn trouble(report: &Report<'_>) -> Option<(Reason, String)> {
    if let Some(error) = report.failure {
        return Some((error.reason(), error.to_string()));
    }
    if let Some(note) = &report.plan.blocked {
        return Some((note.reason, note.message.clone()));
    }
    if report.sight.asked.alarms.iter().any(|(kind, _)| *kind == 2) {
        return Some((
            Reason::Corrupt,
            "a member's data differs from the others': see status.alarms".into(),
        ));
    }
    if let Some(text) = &report.space {
        return Some((Reason::NoSpace, text.clone()));
    }
    report.sight.pods.values().find_map(|pod| {
        let (word, message) = stuck(pod)?;
        let words = last_words(pod, WORDS_MAX).unwrap_or(message);
        Some((
            Reason::MemberNotReady,
            format!("{}: {word}: {words}", pod.name_any()),
        ))
    })
}

fn count(
    context: &Context,
    cluster: &EngramCluster,
    report: &Report<'_>,
    status: &EngramClusterStatus,
) {
    let names = Names::of(cluster);
    let labels = [names.namespace.as_str(), names.cluster.as_str()];
    let metrics = &context.metrics;
    let ready = crate::api::is_true(&status.conditions, Kind::Ready);
    metrics
        .cluster_ready
        .with_label_values(&labels)
        .set(i64::from(ready));
    let margin = status
        .quorum
        .as_ref()
        .map_or(-1, |quorum| quorum.healthy - (quorum.voters / 2 + 1));
    metrics
        .quorum_margin
        .with_label_values(&labels)
        .set(i64::from(margin));
    let learners = report
        .sight
        .observed
        .roster
        .as_ref()
        .map_or(0, |roster| roster.learners().count());
    let states = [
        ("ready", i64::from(status.ready_members)),
        ("unready", i64::from(status.members - status.ready_members)),
        ("learner", i64::try_from(learners).unwrap_or_default()),
    ];
    for (state, value) in states {
        metrics
            .cluster_members
            .with_label_values(&[labels[0], labels[1], state])
            .set(value);
    }
    for (number, name) in [(1, "NOSPACE"), (2, "CORRUPT")] {
        let raised = report
            .sight
            .asked
            .alarms
            .iter()
            .filter(|(kind, _)| *kind == number)
            .count();
        let labels = [labels[0], labels[1], name];
        metrics
            .alarms
            .with_label_values(&labels)
            .set(i64::try_from(raised).unwrap_or_default());
    }
    if let Some(last) = &status.last_backup {
        let seconds = last.completed_at.0.as_duration().as_secs_f64();
        metrics
            .backup_success
            .with_label_values(&labels)
            .set(seconds);
    }
}
