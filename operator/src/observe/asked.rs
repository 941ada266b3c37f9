//! What the members say, all asked at once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::api::EngramMember;
use crate::desired::{CLIENT_PORT, Names};
use crate::etcd::{Listed, MemberClient, Status, TlsClient};

use super::{own_pod, pod_state};

/// How many are asked for the list in one pass: each may take as long as a call does, and the pass acts
/// only on what is not old.
const ASKED_MAX: usize = 3;

/// etcd's number for CORRUPT.
const CORRUPT: i32 = 2;

/// Whether the alarm CORRUPT is among these for a member.
#[must_use]
pub fn names_corrupt(alarms: &[(i32, u64)], id: u64) -> bool {
    alarms.contains(&(CORRUPT, id))
}

/// What the members said.
#[derive(Default)]
pub struct Asked {
    /// Those that answered.
    pub answers: BTreeMap<String, Status>,
    /// Connections to them.
    pub clients: BTreeMap<String, MemberClient>,
    /// The cluster's list; none where no quorum answered.
    pub listed: Option<Vec<Listed>>,
    /// Who leads, by the account of those that answered.
    pub leader: Option<u64>,
    /// What the leader has applied; without one, the most that anyone has.
    pub applied: u64,
    /// Alarms: the kind and the member.
    pub alarms: Vec<(i32, u64)>,
    /// Why a member that runs did not answer.
    pub failures: BTreeMap<String, String>,
    /// Members at whose address another cluster answers; nothing else of what was said there is kept.
    pub foreign: Vec<String>,
    /// Who gave the list.
    speaker: Option<String>,
}

impl Asked {
    /// The member that leads, with its connection.
    #[must_use]
    pub fn leading(&self) -> Option<(&str, &MemberClient)> {
        let leader = self.leader?;
        let (name, _) = self
            .answers
            .iter()
            .find(|(_, status)| status.member_id == leader)?;
        Some((name, self.clients.get(name)?))
    }

    /// The connection to the member that gave the list: one that has a quorum behind it, and passes on
    /// to the leader what only that one does.
    #[must_use]
    pub fn speaker(&self) -> Option<&MemberClient> {
        self.clients.get(self.speaker.as_ref()?)
    }

    /// Whether the alarm CORRUPT names a member.
    pub(super) fn is_corrupt(&self, id: u64) -> bool {
        names_corrupt(&self.alarms, id)
    }

    /// Leaves out whoever answers for another cluster than `known`; where none is known yet and the
    /// answers disagree, everybody.
    fn believe(&mut self, known: Option<u64>) {
        let ids: BTreeSet<u64> = self.answers.values().map(|one| one.cluster_id).collect();
        let only = ids.first().copied().filter(|_| ids.len() == 1);
        let right = known.or(only);
        let foreign = self
            .answers
            .extract_if(.., |_, status| Some(status.cluster_id) != right);
        for (name, status) in foreign {
            let text = format!("it answers for another cluster, {:x}", status.cluster_id);
            self.clients.remove(&name);
            self.failures.insert(name.clone(), text);
            self.foreign.push(name);
        }
    }

    /// Whom to ask for the list: the leader, then whoever follows one, the furthest first. Each of them
    /// answers only with a quorum behind it.
    fn to_ask(&self) -> Vec<String> {
        let mut knowing: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, status)| status.leader != 0)
            .collect();
        knowing.sort_by_key(|(_, status)| {
            let leads = Some(status.member_id) == self.leader;
            (!leads, Reverse(status.term), Reverse(status.applied))
        });
        let names = knowing.into_iter().map(|(name, _)| name.clone());
        names.take(ASKED_MAX).collect()
    }
}

/// Asks all members that run.
pub(super) async fn ask(
    names: &Names,
    members: &[EngramMember],
    pods: &BTreeMap<String, Pod>,
    tls: Option<&TlsClient>,
    known: Option<u64>,
) -> Asked {
    let running = members.iter().filter_map(|member| {
        let pod = own_pod(member, pods).filter(|pod| pod_state::is_up(pod))?;
        let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some((member.name_any(), SocketAddr::new(address, CLIENT_PORT)))
    });
    let mut asked = Asked::default();
    if names.client_secret().is_some() && tls.is_none() {
        let text = "the operator has no certificate to ask it with";
        let unasked = running.map(|(name, _)| (name, text.to_owned()));
        asked.failures = unasked.collect();
        return asked;
    }
    let questions = running.map(|(name, address)| async move {
        let answer = async {
            let client = MemberClient::connect(address, &names.host(&name), tls).await?;
            let status = client.status().await?;
            Ok::<_, crate::etcd::EtcdError>((client, status))
        };
        (name.clone(), answer.await)
    });
    for (name, answer) in join_all(questions).await {
        match answer {
            Ok((client, status)) => {
                asked.clients.insert(name.clone(), client);
                asked.answers.insert(name, status);
            }
            Err(error) => {
                asked.failures.insert(name, error.to_string());
            }
        }
    }
    asked.believe(known);
    asked.leader = latest_leader(&asked.answers);
    let leader = asked.leader.unwrap_or_default();
    let leads = |status: &&Status| status.member_id == leader;
    let applied = asked
        .answers
        .values()
        .find(leads)
        .map(|status| status.applied);
    let most = asked.answers.values().map(|status| status.applied).max();
    asked.applied = applied.or(most).unwrap_or_default();
    for name in asked.to_ask() {
        let Some(client) = asked.clients.get(&name).cloned() else {
            continue;
        };
        // A failure says that it has no quorum, or does not answer: another one may.
        if let Ok(listed) = client.members().await {
            asked.listed = Some(listed);
            asked.alarms = client.alarms().await.unwrap_or_default();
            asked.speaker = Some(name);
            return asked;
        }
    }
    // An alarm may be why nobody gives the list.
    if let Some(client) = asked.clients.values().next() {
        asked.alarms = client.clone().alarms().await.unwrap_or_default();
    }
    asked
}

/// Whom those that answered take for the leader, by the latest term: one that was cut off may still name
/// the one before.
fn latest_leader(answers: &BTreeMap<String, Status>) -> Option<u64> {
    let led = answers.values().filter(|status| status.leader != 0);
    let latest = led.max_by_key(|status| status.term)?;
    Some(latest.leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answers: &[(&str, u64, u64, u64)]) -> Asked {
        let status = |(id, &(name, cluster_id, leader, term)): (u64, _)| {
            let status = Status {
                cluster_id,
                member_id: id,
                leader,
                term,
                ..Status::default()
            };
            (String::from(name), status)
        };
        Asked {
            answers: (1..).zip(answers).map(status).collect(),
            ..Asked::default()
        }
    }

    #[test]
    fn another_cluster_is_not_believed_though_it_leads_itself() {
        let mut asked = said(&[("a", 7, 2, 3), ("b", 7, 2, 3), ("c", 9, 3, 50)]);
        asked.believe(Some(7));
        assert_eq!(asked.foreign, ["c"]);
        assert_eq!(latest_leader(&asked.answers), Some(2));
        assert!(asked.failures["c"].contains("another cluster, 9"));
        // All of them foreign, as after a list that was re-made: nobody is believed.
        let mut asked = said(&[("a", 9, 1, 3)]);
        asked.believe(Some(7));
        assert_eq!((asked.answers.len(), asked.to_ask().len()), (0, 0));
    }

    #[test]
    fn before_the_cluster_is_known_only_agreement_is_believed() {
        let mut asked = said(&[("a", 7, 1, 3)]);
        asked.believe(None);
        assert_eq!((asked.answers.len(), asked.foreign.len()), (1, 0));
        let mut asked = said(&[("a", 7, 1, 3), ("b", 9, 2, 3)]);
        asked.believe(None);
        assert_eq!((asked.answers.len(), asked.foreign.len()), (0, 2));
    }

    #[test]
    fn whoever_answers_is_asked_the_leader_first() {
        let mut asked = said(&[("a", 7, 3, 4), ("b", 7, 0, 9), ("c", 7, 3, 4)]);
        asked.leader = latest_leader(&asked.answers);
        assert_eq!(asked.to_ask(), ["c", "a"]);
        // The leader does not answer the operator: its followers do.
        asked.answers.remove("c");
        assert_eq!(asked.to_ask(), ["a"]);
    }

    #[test]
    fn the_latest_term_says_who_leads() {
        let asked = said(&[("a", 7, 9, 4), ("b", 7, 2, 5), ("c", 7, 9, 4)]);
        assert_eq!(latest_leader(&asked.answers), Some(2));
    }
}
