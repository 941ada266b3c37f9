//! A lost quorum: whose log goes furthest, and what is lost at most. Pure, but for the asking.

use kube::ResourceExt as _;

use crate::api::{
    ConditionKind, EngramCluster, EngramClusterStatus, EngramRestore, EngramRestoreStatus,
    KeptVolume, Reason, is_true,
};

use super::super::{Context, Error};
use super::look::{self, Found, Holds, Look, When};
use super::plan;
use super::state::State;

/// How the choice stands.
pub(super) enum Choice {
    /// It is not made yet, or cannot be.
    Not(State),
    /// This member goes on.
    Made(String),
}

/// Chooses the member that goes on, and writes into the status what would be done and lost.
///
/// # Errors
/// The API server refused.
pub(super) async fn choose(
    context: &Context,
    restore: &EngramRestore,
    cluster: &EngramCluster,
    volumes: &[KeptVolume],
    when: When,
    status: &mut EngramRestoreStatus,
) -> Result<Choice, Error> {
    let name = cluster.name_any();
    let answers =
        |now: &EngramClusterStatus| is_true(&now.conditions, ConditionKind::QuorumAvailable);
    if cluster.status.as_ref().is_some_and(answers) {
        let message = format!(
            "a quorum of EngramCluster {name} answers: nothing has to be recovered, and members that are \
             lost are replaced"
        );
        return Ok(Choice::Not(State::Failed(Reason::InvalidSpec, message)));
    }
    let found = match look::at(context, restore, cluster, volumes, when).await? {
        Look::Not(state) => return Ok(Choice::Not(state)),
        Look::Done(found) => found,
    };
    let named = restore.spec.survivor.as_deref();
    let Some(choice) = choice(cluster, &found, named) else {
        let said = [words(&found), look::failures(&found)].concat().join("; ");
        let message = match named {
            None => format!("no volume of {name} holds its data ({said}): restore a backup"),
            Some(named) => format!(
                "no volume of {named} holds the data of {name} ({said}): make a restore with another survivor"
            ),
        };
        return Ok(Choice::Not(State::Failed(Reason::DataLost, message)));
    };
    let (survivor, holds) = choice;
    status.plan = steps(cluster, &found, survivor, holds);
    status.plan_hash = Some(plan::hash(&status.plan));
    status.loss = Some(loss(cluster, &found, survivor, holds));
    status.survivor = Some(survivor.clone());
    Ok(Choice::Made(survivor.clone()))
}

/// Whose log goes furthest, of this cluster's: the later term counts, then the index. Or who is named.
fn choice<'a>(
    cluster: &EngramCluster,
    found: &'a Found,
    named: Option<&str>,
) -> Option<(&'a String, &'a Holds)> {
    let own = cluster
        .status
        .as_ref()
        .and_then(|status| status.cluster_id.as_ref());
    let readable = found
        .iter()
        .filter_map(|(member, holds)| Some((member, holds.as_ref().ok()?)));
    let ours = readable.filter(|(_, holds)| Some(&holds.cluster_id) == own);
    let ours = ours.filter(|(member, _)| named.is_none_or(|named| named == *member));
    let by_log = |(member, holds): &(&String, &Holds)| {
        (
            holds.last_term,
            holds.last_index,
            std::cmp::Reverse((*member).clone()),
        )
    };
    ours.max_by_key(by_log)
}

/// Each volume in words. They say nothing that changes by itself: their hash is confirmed.
fn words(found: &Found) -> Vec<String> {
    let one = |(member, holds): (&String, &Result<Holds, String>)| match holds {
        Ok(holds) => format!(
            "{member} of cluster {}: last entry {} of term {}",
            holds.cluster_id, holds.last_index, holds.last_term
        ),
        Err(_) => format!("{member}: its volume cannot be read"),
    };
    found.iter().map(one).collect()
}

fn steps(cluster: &EngramCluster, found: &Found, survivor: &str, holds: &Holds) -> Vec<String> {
    let others: Vec<&str> = found
        .keys()
        .filter(|member| *member != survivor)
        .map(String::as_str)
        .collect();
    let mut plan = words(found);
    plan.push(format!(
        "{survivor} goes on alone, with all that its log holds (up to entry {} of term {}): \
         --force-new-cluster, which cannot be undone",
        holds.last_index, holds.last_term
    ));
    plan.push(match others.is_empty() {
        true => "there are no other members".into(),
        false => format!(
            "{} is stopped and set aside, and its volume kept until decision is Accept",
            others.join(", ")
        ),
    });
    plan.push(format!(
        "new members join as learners, up to {}",
        cluster.spec.replicas
    ));
    plan
}

/// What is lost at most. An entry that was acknowledged is in a majority's logs: where so many volumes
/// were read, whose log goes furthest has all of them.
fn loss(cluster: &EngramCluster, found: &Found, survivor: &str, holds: &Holds) -> String {
    let voters = holds.members.iter().filter(|one| !one.learner).count();
    let is_voter = |read: &Holds| {
        let mut listed = holds.members.iter();
        listed.any(|one| one.is_at(read) && !one.learner)
    };
    let end = |holds: &Holds| (holds.last_term, holds.last_index);
    let furthest = choice(cluster, found, None);
    if let Some((further, more)) = furthest.filter(|(_, one)| end(one) > end(holds)) {
        return format!(
            "what {survivor} does not have: the log of {further} goes further (entry {} of term {}, and that of \
             {survivor} ends at entry {} of term {}; its revision is {} to {}), and its volume is kept",
            more.last_index,
            more.last_term,
            holds.last_index,
            holds.last_term,
            holds.revision,
            holds.revision.saturating_add(holds.requests_behind),
        );
    }
    let read = found.values().filter_map(|one| one.as_ref().ok());
    let read = read.filter(|one| is_voter(one)).count();
    let most = holds.revision.saturating_add(holds.requests_behind);
    // Who went on alone before may have acknowledged what no other volume has.
    let alone = cluster.restoring().and_then(|one| {
        let before = one.before.as_ref().map(|before| &before.survivor);
        one.survivor.as_ref().or(before)
    });
    let unread = alone.is_some_and(|one| !matches!(found.get(one), Some(Ok(_))));
    if voters > 0 && read > voters / 2 && !unread {
        return format!(
            "nothing that was acknowledged: {read} of {voters} voters' volumes were read, and {survivor} has \
             the furthest log of them (revision {} to {most})",
            holds.revision
        );
    }
    let known = cluster.status.as_ref().and_then(|status| status.revision);
    let known = match known {
        Some(known) if known > most => format!(
            "at least {} revisions: the cluster was at {known} when its status was last written",
            known - most
        ),
        Some(known) => format!(
            "none that is known of: the cluster was at {known} when its status was last written"
        ),
        None => "how much is not known".to_owned(),
    };
    format!(
        "at most what {survivor} does not have, whose revision is {} to {most}: {read} of {voters} voters' \
         volumes could be read ({}); {known}",
        holds.revision,
        look::failures(found).join("; ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::look::Listed;
    use super::*;

    fn cluster(revision: i64) -> EngramCluster {
        serde_json::from_value(json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster",
            "metadata": { "name": "demo" }, "spec": { "replicas": 3 },
            "status": { "clusterID": "c", "revision": revision },
        }))
        .unwrap()
    }

    fn holds(id: &str, last_term: u64, last_index: u64, of: &str) -> Result<Holds, String> {
        let listed = |id: &str| Listed {
            id: id.into(),
            incarnation: format!("a{id}"),
            ..Listed::default()
        };
        Ok(Holds {
            cluster_id: of.into(),
            member_id: id.into(),
            incarnation: format!("a{id}"),
            last_term,
            last_index,
            revision: 40,
            requests_behind: 2,
            members: ["1", "2", "3"].map(listed).into(),
        })
    }

    fn found(all: Vec<(&str, Result<Holds, String>)>) -> Found {
        all.into_iter()
            .map(|(name, holds)| (name.to_owned(), holds))
            .collect()
    }

    fn chosen(all: Vec<(&str, Result<Holds, String>)>) -> Option<String> {
        choice(&cluster(42), &found(all), None).map(|(member, _)| member.clone())
    }

    #[test]
    fn the_later_term_counts_then_the_index_and_no_other_clusters_volume() {
        let of = |term, index| holds("1", term, index, "c");
        assert_eq!(
            chosen(vec![("a-1", of(2, 90)), ("a-2", of(3, 80))]),
            Some("a-2".into())
        );
        assert_eq!(
            chosen(vec![("a-1", of(3, 81)), ("a-2", of(3, 80))]),
            Some("a-1".into())
        );
        assert_eq!(
            chosen(vec![("a-2", of(3, 80)), ("a-1", of(3, 80))]),
            Some("a-1".into())
        );
        let other = ("a-1", holds("1", 9, 99, "another"));
        assert_eq!(
            chosen(vec![other.clone(), ("a-2", of(3, 80))]),
            Some("a-2".into())
        );
        assert_eq!(chosen(vec![other, ("a-2", Err("gone".into()))]), None);
    }

    #[test]
    fn who_is_named_goes_on_and_what_others_have_beside_it_is_said() {
        let all = found(vec![
            ("a-1", holds("1", 3, 80, "c")),
            ("a-2", holds("2", 3, 97, "c")),
            ("a-3", holds("3", 3, 99, "another")),
        ]);
        let cluster = cluster(42);
        let (survivor, held) = choice(&cluster, &all, Some("a-1")).unwrap();
        assert_eq!(survivor, "a-1");
        let loss = loss(&cluster, &all, survivor, held);
        for part in ["a-2", "entry 97", "entry 80", "40 to 42"] {
            assert!(loss.contains(part), "{part} in {loss}");
        }
        for nobody in ["a-3", "a-9"] {
            assert!(choice(&cluster, &all, Some(nobody)).is_none());
        }
    }

    #[test]
    fn the_loss_is_none_where_a_majority_was_read_and_at_most_the_others_where_not() {
        let one = ("a-1", holds("1", 3, 80, "c"));
        let loss_of = |revision, all: Vec<(&str, Result<Holds, String>)>| {
            let found = found(all);
            let cluster = cluster(revision);
            let (survivor, holds) = choice(&cluster, &found, None).unwrap();
            loss(&cluster, &found, survivor, holds)
        };
        let all = loss_of(50, vec![one.clone(), ("a-2", holds("2", 3, 79, "c"))]);
        assert!(
            all.starts_with("nothing that was acknowledged: 2 of 3"),
            "{all}"
        );
        let mut restored = holds("2", 0, 1, "c");
        restored.as_mut().unwrap().incarnation = "ff".into();
        let another = loss_of(50, vec![one.clone(), ("a-2", restored)]);
        assert!(another.contains("1 of 3 voters' volumes"), "{another}");
        let gone = ("a-2", Err("its volume is gone".to_owned()));
        let some = loss_of(50, vec![one.clone(), gone.clone()]);
        assert!(
            some.contains("at least 8 revisions") && some.contains("40 to 42"),
            "{some}"
        );
        assert!(loss_of(41, vec![one, gone]).contains("none that is known of"));
    }
}
