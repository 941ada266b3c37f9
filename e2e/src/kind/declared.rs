//! An EngramCluster: declared, waited for, changed, and asked how it is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Access, Kind, wait_for};

/// A condition of an object's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True` or `False`.
    pub status: String,
    /// Why, in a word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// The condition of that type, if the object has it.
pub fn condition(object: &Value, kind: &str) -> Option<Condition> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|one| one["type"] == kind)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some(Condition {
        status: text("status"),
        reason: text("reason"),
        message: text("message"),
    })
}

/// An EngramCluster of a kind cluster.
#[derive(Clone, Debug)]
pub struct Declared {
    kind: Arc<Kind>,
    namespace: String,
    name: String,
}

impl Declared {
    /// The cluster of that name, which is there or will be.
    pub fn named(kind: &Arc<Kind>, namespace: &str, name: &str) -> Declared {
        Declared {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Declares it, in a namespace that is there.
    pub fn declare(kind: &Arc<Kind>, namespace: &str, name: &str, spec: &Value) -> Declared {
        let declared = Self::named(kind, namespace, name);
        let object = json!({
            "apiVersion": "engram.dev/v1alpha1",
            "kind": "EngramCluster",
            "metadata": { "name": name },
            "spec": spec,
        });
        kind.apply(namespace, &object.to_string());
        declared
    }

    /// Where it is.
    pub fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object; `None` if it is not there.
    pub fn object(&self) -> Option<Value> {
        self.kind
            .get(&self.namespace, &["engramcluster", &self.name])
    }

    /// Merges into its specification.
    pub fn change(&self, spec: &Value) {
        let patch = json!({ "spec": spec }).to_string();
        self.kind.must(&[
            "-n",
            &self.namespace,
            "patch",
            "engramcluster",
            &self.name,
            "--type=merge",
            "-p",
            &patch,
        ]);
    }

    /// Waits until the status speaks of the present specification and says that all `members` are
    /// ready. What it said last is in the message of a panic.
    ///
    /// # Panics
    /// If it does not come to that within `limit`.
    pub fn ready(&self, members: usize, limit: Duration) -> Value {
        let mut last = Value::Null;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let what = format!("{} has {members} ready members", self.name);
            wait_for(&what, limit, || {
                last = self.object()?;
                is_ready(&last, members).then(|| last.clone())
            })
        }));
        waited.unwrap_or_else(|_| panic!("{} is not ready: {:#}", self.name, last["status"]))
    }

    /// The members' pods, without those that are on their way out: on a node without power they stay
    /// so for minutes.
    ///
    /// # Panics
    /// If the API server does not answer.
    pub fn pods(&self) -> Vec<Value> {
        let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
        let mut pods = self.of_members("pods");
        pods.retain(stays);
        pods
    }

    fn of_members(&self, what: &str) -> Vec<Value> {
        let selector = self.selector();
        let list = self.kind.get(&self.namespace, &[what, "-l", &selector]);
        let list = list.unwrap_or_else(|| panic!("{what} cannot be listed"));
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Who the members' objects of a kind are: the same ones, or others of the same names.
    ///
    /// # Panics
    /// If the API server does not answer.
    pub fn uids(&self, what: &str) -> BTreeSet<String> {
        let uid = |object: &Value| object["metadata"]["uid"].as_str().map(str::to_owned);
        self.of_members(what).iter().filter_map(uid).collect()
    }

    /// What is a member's, and no backup's.
    fn selector(&self) -> String {
        format!(
            "app.kubernetes.io/component=member,engram.dev/cluster={}",
            self.name
        )
    }

    /// The members' names: those of their objects, and of their pods.
    pub fn members(&self) -> Vec<String> {
        let name = |member: &Value| Some(member["metadata"]["name"].as_str()?.to_owned());
        let members = self.of_members("engrammembers");
        members.iter().filter_map(name).collect()
    }

    /// The member that leads, as the status has it.
    ///
    /// # Panics
    /// If the status names nobody.
    pub fn leader(&self) -> String {
        let object = self.object().expect("the cluster is there");
        let leader = object["status"]["leader"]["member"].as_str();
        leader.expect("somebody leads").to_owned()
    }

    /// A member that does not lead.
    ///
    /// # Panics
    /// If there is none.
    pub fn follower(&self) -> String {
        let leader = self.leader();
        let mut followers = self.members().into_iter().filter(|name| *name != leader);
        followers.next().expect("somebody follows")
    }

    /// What it takes to speak to its members.
    pub fn access(&self) -> Access {
        self.kind.access(&self.namespace, &self.name)
    }

    /// Makes its client Service one of type NodePort and returns where each node has it: with kind,
    /// nodes are reached from this machine, and a pod that goes takes no forwarded port with it.
    ///
    /// # Panics
    /// If the Service gets no port.
    pub fn node_ports(&self) -> Vec<SocketAddr> {
        self.change(&json!({ "clientService": { "type": "NodePort" } }));
        let service = format!("{}-client", self.name);
        let what = format!("Service {service} has a port of the nodes");
        let port = wait_for(&what, super::KUBECTL_LIMIT, || {
            let service = self.kind.get(&self.namespace, &["service", &service])?;
            service["spec"]["ports"][0]["nodePort"].as_u64()
        });
        let port = u16::try_from(port).expect("it is a port");
        let address = |node: &str| SocketAddr::new(self.kind.node_address(node), port);
        self.kind.nodes().iter().map(|node| address(node)).collect()
    }

    /// Deletes it and waits until its pods and volumes are gone as well.
    pub fn delete(&self, limit: Duration) {
        self.delete_with(limit, "pods,persistentvolumeclaims");
    }

    /// Deletes it and waits until its pods are gone as well. Its volumes stay.
    pub fn delete_keeping_volumes(&self, limit: Duration) {
        self.delete_with(limit, "pods");
    }

    fn delete_with(&self, limit: Duration, goes: &str) {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let within = limit + super::KUBECTL_LIMIT;
        let object = format!("engramcluster/{}", self.name);
        let delete = ["-n", &self.namespace, "delete", &object, &timeout];
        self.kind.must_within(within, &delete);
        let selector = self.selector();
        let what = format!("no member of {} is left", self.name);
        wait_for(&what, limit, || {
            let left = [goes, "-l", &selector];
            let list = self.kind.get(&self.namespace, &left)?;
            list["items"].as_array()?.is_empty().then_some(())
        });
    }
}

fn is_ready(object: &Value, members: usize) -> bool {
    let status = &object["status"];
    let current = status["observedGeneration"] == object["metadata"]["generation"];
    let all = status["readyMembers"] == members && status["members"] == members;
    let ready = condition(object, "Ready").is_some_and(|ready| ready.status == "True");
    current && all && ready
}
