//! Who may do what in clusters: authentication itself, their users and their roles.
//!
//! The operator is a user by its certificate's name, with the role root: it has no password and no token,
//! and is heard by a member that has just started as well.

mod password;
mod role;
mod switch;
mod user;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{ConditionKind, EngramCluster, Reason, set_condition};
use crate::etcd::{EtcdError, MemberClient};

use super::{Context, Error, now, tool};

pub(super) use role::reconcile as role;
pub(super) use switch::settle;
pub(super) use user::reconcile as user;

/// The next look at what waits.
const SOON: Duration = Duration::from_secs(5);
/// The next look at what is as it should be: how long another password, or what somebody changed in the
/// cluster itself, may go unseen.
const LATER: Duration = Duration::from_secs(60);

/// Whom to ask.
enum Cluster {
    /// It serves, asks its clients who they are, and hears the operator.
    Serves(Box<EngramCluster>, MemberClient),
    /// It is gone, or going.
    Gone,
    /// It does not serve yet, or does not ask.
    Waits(Reason, String),
}

/// The cluster that a user or role belongs to.
///
/// # Errors
/// The API server did not answer.
async fn cluster(context: &Context, namespace: &str, name: &str) -> Result<Cluster, Error> {
    let Some(cluster) = tool::cluster(context, namespace, name).await? else {
        return Ok(Cluster::Gone);
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(Cluster::Gone);
    }
    if !cluster.spec.auth.enabled {
        let message = format!(
            "EngramCluster {name} does not ask clients who they are: set its spec.auth.enabled"
        );
        return Ok(Cluster::Waits(Reason::AuthDisabled, message));
    }
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let on = cluster
        .status
        .as_ref()
        .is_some_and(|status| status.auth_enabled);
    match context.speaker(uid) {
        Some(client) if on => Ok(Cluster::Serves(Box::new(cluster), client)),
        _ => {
            let message = format!("EngramCluster {name} does not serve with authentication yet");
            Ok(Cluster::Waits(Reason::WaitingForCluster, message))
        }
    }
}

/// How a user or role stands.
enum Stand {
    /// As it is wanted.
    Good(String),
    /// It waits for something else.
    Waits(Reason, String),
    /// A person has to change something.
    Wrong(Reason, String),
}

impl Stand {
    /// What came of bringing one up to date.
    ///
    /// # Errors
    /// What nobody who reads its status can do anything about.
    fn of(result: Result<String, Error>) -> Result<Self, Error> {
        match result {
            Ok(message) => Ok(Self::Good(message)),
            Err(Error::Input { reason, message }) if reason.needs_person() => {
                Ok(Self::Wrong(reason, message))
            }
            Err(Error::Input { reason, message }) => Ok(Self::Waits(reason, message)),
            Err(Error::NotNow(message)) => Ok(Self::Waits(Reason::WaitingForCluster, message)),
            Err(Error::Etcd(error)) => {
                let text = match &error {
                    EtcdError::Refused { message, .. } => message.clone(),
                    other => other.to_string(),
                };
                Ok(Self::Waits(Reason::Failed, text))
            }
            Err(error) => Err(error),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Good(_) => Reason::AsExpected,
            Self::Waits(reason, _) | Self::Wrong(reason, _) => *reason,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Good(message) | Self::Waits(_, message) | Self::Wrong(_, message) => message,
        }
    }

    fn next(&self) -> Duration {
        match self {
            Self::Waits(..) => SOON,
            Self::Good(_) | Self::Wrong(..) => LATER,
        }
    }

    fn say(&self, conditions: &mut Vec<Condition>, generation: Option<i64>) {
        for (kind, holds) in [
            (ConditionKind::Ready, matches!(self, Self::Good(_))),
            (ConditionKind::Reconciling, matches!(self, Self::Waits(..))),
            (ConditionKind::Stalled, matches!(self, Self::Wrong(..))),
        ] {
            let (reason, message) = (self.reason(), self.message());
            set_condition(conditions, kind, holds, reason, message, generation, now());
        }
    }
}

/// Two objects of one name in the cluster would undo each other's work: the older one has it.
fn taken(kind: &str, name: &str, by: &str) -> Error {
    let message =
        format!("{kind} {by} is the older one of {name} in this cluster: delete one of them");
    Error::input(Reason::AlreadyExists, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_refuses_is_said_in_its_words_and_tried_again() {
        let refused = EtcdError::Refused {
            what: "user grant-role",
            message: "etcdserver: role name not found".into(),
        };
        let stand = Stand::of(Err(refused.into())).unwrap();
        let mut conditions = Vec::new();
        stand.say(&mut conditions, Some(1));
        let holds = |kind: &str| {
            let one = conditions.iter().find(|one| one.type_ == kind).unwrap();
            (one.status.as_str(), one.message.as_str())
        };
        let words = "etcdserver: role name not found";
        assert_eq!(holds("Ready"), ("False", words));
        assert_eq!(holds("Reconciling"), ("True", words));
        assert_eq!(holds("Stalled"), ("False", words));
        let stand = Stand::of(Err(taken("EngramUser", "app", "first"))).unwrap();
        assert!(matches!(stand, Stand::Wrong(Reason::AlreadyExists, _)));
    }
}
