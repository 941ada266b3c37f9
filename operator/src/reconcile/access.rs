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

use kube::ResourceExt as _;
use kube::api::Api;

use crate::api::{ACCESS_FINALIZER, EngramCluster, EngramClusterStatus, Reason};
use crate::etcd::{EtcdError, MemberClient};
use crate::observe::{Form, observe};

use super::cluster::{HELD_PAUSE, held_by_another};
use super::{Context, Course, Error, Namespaced, has_finalizer, of_cluster, set_standing, tool};

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
    /// Another installation of the operator looks after it, and speaks for its users and roles.
    Anothers,
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
    if held_by_another(context, &cluster).is_some() {
        return Ok(Cluster::Anothers);
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

    /// Its cluster is not there.
    fn nowhere(cluster: &str) -> Self {
        let message = format!("there is no EngramCluster {cluster}");
        Self::Waits(Reason::NotFound, message)
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

    fn course(&self) -> Course {
        match self {
            Self::Good(_) => Course::Good,
            Self::Waits(..) => Course::Open,
            Self::Wrong(..) => Course::Bad,
        }
    }

    fn say(&self, conditions: &mut Vec<Condition>, generation: Option<i64>) {
        let (reason, message) = (self.reason(), self.message());
        set_standing(conditions, self.course(), reason, message, generation);
    }
}

/// What a cluster knows by a name: a user or a role.
trait Subject: Namespaced {
    /// The cluster's name.
    fn cluster(&self) -> &str;

    /// The name that it was given.
    fn named(&self) -> Option<&String>;

    /// Whether the cluster keeps it when its object goes.
    fn stays(&self) -> bool;

    /// Its name in the cluster.
    fn name_in_cluster(&self) -> String {
        self.named().cloned().unwrap_or_else(|| self.name_any())
    }
}

/// Another object of the same one, which is older.
async fn elder<S: Subject>(api: &Api<S>, of: &S) -> Result<Option<String>, Error> {
    let all = api.list(&of_cluster(of.cluster())).await?;
    let name = of.name_in_cluster();
    let key = |one: &S| {
        let created = one.meta().creation_timestamp.as_ref();
        (created.map(|time| time.0), one.name_any())
    };
    let mut same = all.iter().filter(|one| one.name_in_cluster() == name);
    Ok(same
        .find(|one| key(one) < key(of))
        .map(kube::ResourceExt::name_any))
}

/// Two objects of one name in the cluster would undo each other's work: the older one has it.
///
/// # Errors
/// There is an older one.
async fn alone<S: Subject>(api: &Api<S>, of: &S) -> Result<(), Error> {
    match elder(api, of).await? {
        Some(elder) => Err(taken(&S::kind(&()), &of.name_in_cluster(), &elder)),
        None => Ok(()),
    }
}

fn taken(kind: &str, name: &str, by: &str) -> Error {
    let message =
        format!("{kind} {by} is the older one of {name} in this cluster: delete one of them");
    Error::input(Reason::AlreadyExists, message)
}

/// What to do before an object goes.
enum Leave {
    /// Nothing: it was not to be taken from the cluster, and may go.
    Nothing,
    /// The cluster cannot be asked now: when to look again.
    Later(Duration),
    /// The cluster has it no more, or not by this object.
    Already,
    /// It is to be taken from the cluster.
    Ask(MemberClient),
}

async fn leave<S: Subject>(
    context: &Context,
    api: &Api<S>,
    of: &S,
    found: Cluster,
) -> Result<Leave, Error> {
    if !has_finalizer(of, ACCESS_FINALIZER) {
        return Ok(Leave::Nothing);
    }
    let leave = match found {
        Cluster::Gone => Leave::Already,
        // So it was asked for since it was deleted.
        _ if of.stays() => Leave::Already,
        // The other one says that it waits.
        Cluster::Anothers => return Ok(Leave::Later(HELD_PAUSE)),
        _ if elder(api, of).await?.is_some() => Leave::Already,
        Cluster::Serves(_, client) => Leave::Ask(client),
        Cluster::Waits(Reason::AuthDisabled, _) => unasked(context, of).await?,
        Cluster::Waits(..) => Leave::Later(SOON),
    };
    let uid = of.meta().uid.clone().unwrap_or_default();
    let waits = matches!(leave, Leave::Later(_));
    if waits && !context.is_known("leaving", &uid, "") {
        let note = format!(
            "it goes once EngramCluster {} can be told to forget it; to leave it there, set deletionPolicy: Retain",
            of.cluster()
        );
        context.event(of, true, "DeletionWaits", &note).await;
        context.now_known("leaving", &uid, "");
    }
    Ok(leave)
}

/// A cluster that does not ask who its clients are keeps its users and roles: one whose object goes, goes as well, or it
/// would be in force again once they are asked. Looking for somebody to ask takes a pass of its own: seldom.
async fn unasked<S: Subject>(context: &Context, of: &S) -> Result<Leave, Error> {
    let namespace = of.namespace().unwrap_or_default();
    let Some(cluster) = tool::cluster(context, &namespace, of.cluster()).await? else {
        return Ok(Leave::Already);
    };
    let status = cluster.status.as_ref();
    if !status.is_some_and(EngramClusterStatus::was_founded) {
        return Ok(Leave::Already);
    }
    // Nobody runs who could be asked.
    if cluster.spec.replicas == 0 {
        return Ok(Leave::Later(LATER));
    }
    let tls = context.last_client(cluster.metadata.uid.as_deref().unwrap_or_default());
    let form = Form::default();
    let sight = Box::pin(observe(context, &cluster, tls.as_ref(), &form)).await?;
    Ok(match sight.asked.speaker() {
        Some(client) => Leave::Ask(client.clone()),
        // Looking costs as much as a pass of the cluster.
        None => Leave::Later(LATER),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::played::Played;

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

    #[tokio::test]
    async fn a_user_that_is_deleted_while_nobody_is_asked_does_not_stay_in_the_cluster() {
        const OURS: &str = "/apis/engram.dev/v1alpha1/namespaces/data";
        let server = Played::default();
        let context = Arc::new(server.context());
        let (cluster, user) = (
            format!("{OURS}/engramclusters/demo"),
            format!("{OURS}/engramusers/app"),
        );
        let is = |replicas: u32, status: serde_json::Value| {
            let spec = json!({ "replicas": replicas, "auth": { "enabled": false } });
            let demo = json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramCluster", "spec": spec, "status": status,
            });
            server.put(&cluster, demo);
        };
        let deleted = || {
            let meta = json!({
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["engram.dev/access"],
            });
            let app = json!({
                "apiVersion": "engram.dev/v1alpha1", "kind": "EngramUser", "metadata": meta,
                "spec": { "clusterRef": { "name": "demo" } },
            });
            server.put(&user, app);
        };
        deleted();
        let pass = async || {
            let seen = serde_json::from_value(server.object(&user).unwrap()).unwrap();
            Box::pin(user::reconcile(Arc::new(seen), context.clone()))
                .await
                .unwrap();
        };
        // Nobody answers that could take it out: it stays until somebody does, or the cluster is gone.
        for replicas in [3, 0] {
            is(replicas, json!({ "clusterID": "7" }));
            server.requests();
            pass().await;
            assert!(server.object(&user).is_some());
            let asked = server.requests();
            let looked = asked.iter().any(|(_, path)| path.contains("/pods"));
            assert_eq!(looked, replicas > 0, "{asked:?}");
        }
        let notes = server.notes("DeletionWaits");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("deletionPolicy: Retain"), "{notes:?}");
        server.change(&user, |user| {
            user["spec"]["deletionPolicy"] = json!("Retain")
        });
        pass().await;
        assert_eq!(server.object(&user), None);
        deleted();
        // One that never was founded has no users.
        is(3, json!({}));
        pass().await;
        assert_eq!(server.object(&user), None);
        deleted();
        server.remove(&cluster);
        pass().await;
        assert_eq!(server.object(&user), None);
    }
}
