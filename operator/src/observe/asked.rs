//! What the members say, all asked at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::api::EngramMember;
use crate::build::{CLIENT_PORT, Names};
use crate::etcd::{Listed, MemberClient, Status, TlsClient};

use super::{own_pod, pod_state};

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
}

/// Asks all members that run.
pub(super) async fn ask(
    names: &Names,
    members: &[EngramMember],
    pods: &BTreeMap<String, Pod>,
    tls: Option<&TlsClient>,
) -> Asked {
    let running = members.iter().filter_map(|member| {
        let pod = own_pod(member, pods).filter(|pod| pod_state::is_up(pod))?;
        let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some((member.name_any(), SocketAddr::new(address, CLIENT_PORT)))
    });
    let questions = running.map(|(name, address)| async move {
        let answer = async {
            let client = MemberClient::connect(address, &names.host(&name), tls).await?;
            let status = client.status().await?;
            Ok::<_, crate::etcd::EtcdError>((client, status))
        };
        (name.clone(), answer.await)
    });
    let mut asked = Asked::default();
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
    asked.leader = majority_leader(&asked.answers);
    let leader = asked.leader.unwrap_or_default();
    let leads = |status: &&Status| status.member_id == leader;
    let applied = asked
        .answers
        .values()
        .find(leads)
        .map(|status| status.applied);
    let most = asked.answers.values().map(|status| status.applied).max();
    asked.applied = applied.or(most).unwrap_or_default();
    if let Some(client) = asked.leading().map(|(_, client)| client.clone()) {
        // A failure says that no quorum answered; what is not known stays unknown.
        asked.listed = client.members().await.ok();
        asked.alarms = client.alarms().await.unwrap_or_default();
    }
    asked
}

/// Whom most of those that answered take for the leader.
fn majority_leader(answers: &BTreeMap<String, Status>) -> Option<u64> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for status in answers.values().filter(|status| status.leader != 0) {
        *counts.entry(status.leader).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(leader, _)| leader)
}
