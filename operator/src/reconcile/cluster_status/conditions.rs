//! A cluster's conditions.

use kube::ResourceExt as _;

use crate::api::{
    ConditionKind as Kind, EngramCluster, EngramClusterStatus, Reason, set_condition,
};
use crate::observe::{last_words, stuck};
use crate::plan::{Member, Note};

use super::super::{now, restore};
use super::Report;

/// How long before its end a certificate is spoken of: a day, as the critical alert does.
const EXPIRING_SECONDS: i64 = 24 * 60 * 60;
/// How much of a failing container's words is shown.
const WORDS_MAX: usize = 400;

/// A condition: what it is about, whether it holds, and why.
type Said = (Kind, bool, Reason, String);

/// Sets them.
pub(super) fn conditions(
    cluster: &EngramCluster,
    report: &Report<'_>,
    status: &mut EngramClusterStatus,
) {
    let findings = Findings::of(cluster, report);
    let said = [
        findings.ready(),
        findings.writable(report),
        findings.available(Kind::QuorumAvailable, "a quorum answers"),
        findings.noted(Kind::Progressing, findings.progress),
        findings.noted(Kind::Degraded, findings.degraded()),
        findings.noted(Kind::Reconciling, findings.reconciling()),
        findings.noted(Kind::Stalled, findings.stalled()),
        members_healthy(report),
        findings.up_to_date(report.runs),
        tls_ready(report),
        storage_healthy(report),
        paused(cluster),
    ];
    let generation = cluster.metadata.generation;
    for (kind, holds, reason, message) in said {
        let conditions = &mut status.conditions;
        set_condition(conditions, kind, holds, reason, message, generation, now());
    }
}

/// What several conditions go by.
struct Findings<'a> {
    /// Reads and writes are served.
    serves: bool,
    /// The cluster is to rest.
    rests: bool,
    /// Every wanted member is there, votes, is ready and up to date.
    whole: bool,
    outdated: bool,
    trouble: Option<Note>,
    /// What is asked for and not granted: it keeps no member from being ready.
    refused: Option<Note>,
    progress: Option<&'a Note>,
}

impl<'a> Findings<'a> {
    fn of(cluster: &EngramCluster, report: &'a Report<'_>) -> Self {
        let observed = &report.sight.observed;
        let rests = cluster.spec.replicas == 0;
        let wanted = usize::try_from(cluster.spec.replicas).unwrap_or_default();
        let roster = observed.roster.as_ref();
        let voters = roster.map_or(0, |roster| roster.voters().count());
        let mut pods = observed.members.iter().filter_map(|one| one.pod.as_ref());
        let outdated = pods.any(|pod| pod.outdated);
        let ready = observed.members.iter().all(Member::is_ready);
        let all = observed.members.len() == wanted && (rests || voters == wanted);
        Self {
            serves: roster.is_some(),
            rests,
            whole: all && ready && !outdated,
            outdated,
            trouble: trouble(report),
            refused: report.refused.map(|error| Note {
                reason: error.reason(),
                message: error.to_string(),
            }),
            progress: report.plan.progress.as_ref(),
        }
    }

    /// Of what stands in the way, or else of what is under way.
    fn note(&self) -> Option<&Note> {
        self.trouble.as_ref().or(self.progress)
    }

    fn degraded(&self) -> Option<&Note> {
        self.trouble.as_ref().or(self.refused.as_ref())
    }

    /// What nothing but a person changes. What is only not granted is nothing of it while something else gets on.
    fn stalled(&self) -> Option<&Note> {
        let refused = self.refused.as_ref().filter(|_| self.progress.is_none());
        let stands = self.trouble.as_ref().or(refused);
        stands.filter(|note| note.reason.needs_person())
    }

    /// Tools that go by kstatus wait for as long as this holds, whatever else does.
    fn reconciling(&self) -> Option<&Note> {
        self.progress.filter(|_| self.stalled().is_none())
    }

    /// Reads are served as long as a quorum answers, and writes where there is room for them.
    fn writable(&self, report: &Report<'_>) -> Said {
        match &report.space {
            Some(text) if self.serves => {
                let message = format!("reads are served, and no write that needs room: {text}");
                (Kind::Available, false, Reason::NoSpace, message)
            }
            _ => self.available(Kind::Available, "reads and writes are served"),
        }
    }

    fn message(&self, otherwise: &str) -> String {
        let note = self.note();
        note.map_or_else(|| otherwise.to_owned(), |note| note.message.clone())
    }

    fn ready(&self) -> Said {
        let good = self.serves && self.whole && self.trouble.is_none() && !self.rests;
        let (reason, message) = if good {
            (Reason::AllMembersReady, "every member is ready".to_owned())
        } else if self.rests {
            (Reason::Hibernated, self.message("the cluster rests"))
        } else {
            let reason = self.note().map_or(Reason::MemberNotReady, |n| n.reason);
            (reason, self.message("not every member is ready"))
        };
        (Kind::Ready, good, reason, message)
    }

    fn available(&self, kind: Kind, good: &str) -> Said {
        let (reason, message) = if self.serves {
            (Reason::AsExpected, good.to_owned())
        } else if self.rests {
            (Reason::Hibernated, self.message("no quorum answers"))
        } else {
            let reason = self.note().map_or(Reason::QuorumLost, |n| n.reason);
            (reason, self.message("no quorum answers"))
        };
        (kind, self.serves, reason, message)
    }

    fn noted(&self, kind: Kind, note: Option<&Note>) -> Said {
        let reason = note.map_or(Reason::AsExpected, |note| note.reason);
        let message = note.map_or_else(String::new, |note| note.message.clone());
        (kind, note.is_some(), reason, message)
    }

    fn up_to_date(&self, runs: &str) -> Said {
        let reason = match self.outdated {
            true => Reason::RollingUpdate,
            false => Reason::AsExpected,
        };
        (Kind::UpToDate, !self.outdated, reason, runs.to_owned())
    }
}

fn members_healthy(report: &Report<'_>) -> Said {
    let members = report.sight.observed.members.iter();
    let away: Vec<&str> = members
        .filter(|member| !member.healthy)
        .map(|member| member.name.as_str())
        .collect();
    match away.is_empty() {
        true => (
            Kind::MembersHealthy,
            true,
            Reason::AsExpected,
            String::new(),
        ),
        false => {
            let message = format!("{} does not answer", away.join(", "));
            (Kind::MembersHealthy, false, Reason::MemberNotReady, message)
        }
    }
}

/// Whether certificates hold. The operator renews its own long before their end: one that comes this
/// near is one of the user's, or could not be renewed.
fn tls_ready(report: &Report<'_>) -> Said {
    if let Some(error) = &report.certificates.failure {
        let reason = Reason::CertificateInvalid;
        return (Kind::TLSReady, false, reason, error.to_string());
    }
    let now = report.sight.observed.now;
    let ends = report.certificates.ends.iter();
    let Some(next) = ends.min_by_key(|one| one.not_after.0) else {
        return (Kind::TLSReady, true, Reason::AsExpected, String::new());
    };
    let left = next.not_after.0.as_second() - now;
    let (name, end) = (&next.name, next.not_after.0);
    match left {
        ..=0 => {
            let message = format!("the certificate in Secret {name} ended at {end}: replace it");
            (Kind::TLSReady, false, Reason::CertificateExpiring, message)
        }
        1..EXPIRING_SECONDS => {
            let message = format!("the certificate in Secret {name} ends at {end}");
            (Kind::TLSReady, true, Reason::CertificateExpiring, message)
        }
        _ => (Kind::TLSReady, true, Reason::AsExpected, String::new()),
    }
}

fn storage_healthy(report: &Report<'_>) -> Said {
    match &report.space {
        None => (
            Kind::StorageHealthy,
            true,
            Reason::AsExpected,
            String::new(),
        ),
        Some(text) => (Kind::StorageHealthy, false, Reason::NoSpace, text.clone()),
    }
}

fn paused(cluster: &EngramCluster) -> Said {
    let reason = match cluster.spec.paused {
        true => Reason::Paused,
        false => Reason::AsExpected,
    };
    (Kind::Paused, cluster.spec.paused, reason, String::new())
}

/// What needs a person, or more time than it should.
fn trouble(report: &Report<'_>) -> Option<Note> {
    let note = |reason, message| Some(Note { reason, message });
    if let Some(error) = report.failure {
        return note(error.reason(), error.to_string());
    }
    if let Some(blocked) = &report.plan.blocked {
        return Some(blocked.clone());
    }
    if report.sight.asked.alarms.iter().any(|(kind, _)| *kind == 2) {
        let message = "a member's data differs from the others', and it serves nobody: it is replaced, and \
                       its volume kept; see status.alarms";
        return note(Reason::Corrupt, message.to_owned());
    }
    if let Some(text) = &report.space {
        return note(Reason::NoSpace, text.clone());
    }
    let pods = || report.sight.objects.pods.values();
    if let Some((reason, message)) = pods().find_map(restore::refusal) {
        return note(reason, message);
    }
    pods().find_map(|pod| {
        let (word, message) = stuck(pod)?;
        let words = last_words(pod, WORDS_MAX).unwrap_or(message);
        let message = format!("{}: {word}: {words}", pod.name_any());
        note(Reason::MemberNotReady, message)
    })
}
