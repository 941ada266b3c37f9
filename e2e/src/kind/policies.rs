//! NetworkPolicies where the nodes' network knows none: what they say of who may come in, as rules of nftables in
//! each node. They follow the pods and policies that there are, until the value is dropped. A pod that they do not know
//! yet is not answered, and asks again a second later; one that they know and that is not let in is refused.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::{Kind, wait_for};

/// Between two looks at pods and policies.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long the first rules may take.
const FIRST_LIMIT: Duration = Duration::from_secs(30);
/// The table of these rules.
const TABLE: &str = "engram_policies";

/// Policies in force.
pub struct Policies {
    kind: Arc<Kind>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Policies {
    /// Puts them into force, and keeps them so.
    ///
    /// # Panics
    /// If a node takes no rules, or a policy says what is not played here.
    pub fn enforce(kind: &Arc<Kind>) -> Policies {
        let stop = Arc::new(AtomicBool::new(false));
        let mut known = BTreeMap::new();
        wait_for("policies are in force", FIRST_LIMIT, || {
            follow(kind, &mut known)
        });
        let thread = thread::spawn({
            let (kind, stop) = (kind.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(INTERVAL);
                    // Nobody answers for a moment: what was in force stays.
                    let _ = follow(&kind, &mut known);
                }
            }
        });
        Policies {
            kind: kind.clone(),
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Policies {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        let followed = thread.is_some_and(|thread| thread.join().is_ok());
        if thread::panicking() {
            return;
        }
        assert!(followed, "policies were followed to the end");
        for node in self.kind.nodes() {
            self.kind
                .on_node(&node, &["nft", "delete", "table", "ip", TABLE]);
        }
    }
}

/// Brings each node's rules up to date; `None` if somebody did not answer.
fn follow(kind: &Kind, known: &mut BTreeMap<String, String>) -> Option<()> {
    let list = |what: &str| {
        let list = kind.get("default", &[what, "-A"])?;
        list["items"].as_array().cloned()
    };
    let world = World {
        pods: list("pods")?,
        namespaces: list("namespaces")?,
        policies: list("networkpolicies")?,
    };
    for node in kind.nodes() {
        let rules = world.rules(&node);
        if known.get(&node) != Some(&rules) {
            let script = format!("nft -f - <<'END'\n{rules}END\n");
            kind.on_node(&node, &["sh", "-c", &script]);
            known.insert(node, rules);
        }
    }
    Some(())
}

struct World {
    pods: Vec<Value>,
    namespaces: Vec<Value>,
    policies: Vec<Value>,
}

/// A pod's address, if it has one and is not the node's.
fn address(pod: &Value) -> Option<&str> {
    let own = pod["spec"]["hostNetwork"] != true;
    let lives = !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str()?);
    pod["status"]["podIP"].as_str().filter(|_| own && lives)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether labels are what a selector wants; an empty one wants nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let mut wanted = wanted.map(|(key, value)| labels[key] == *value);
    let expression = |one: &Value| {
        let label = &labels[one["key"].as_str().unwrap_or_default()];
        let among = list(&one["values"]).any(|value| value == label);
        match one["operator"].as_str() {
            Some("In") => among,
            Some("NotIn") => !among,
            Some("Exists") => !label.is_null(),
            Some("DoesNotExist") => label.is_null(),
            other => panic!("{other:?} is no operator"),
        }
    };
    wanted.all(|holds| holds) && list(&selector["matchExpressions"]).all(expression)
}

/// What comes from one of these; none where there are none.
fn out_of<A: Borrow<str> + Ord>(addresses: impl Iterator<Item = A>) -> Option<String> {
    let all: BTreeSet<A> = addresses.collect();
    let all: Vec<A> = all.into_iter().collect();
    (!all.is_empty()).then(|| format!("ip saddr {{ {} }} ", all.join(", ")))
}

impl World {
    /// The rules of a node: for each of its pods that a policy is about, who may come in. What a node asks of
    /// its own pods does not come this way.
    fn rules(&self, node: &str) -> String {
        let mut chains = String::new();
        let mut jumps = String::new();
        let refusal = self.refusal();
        let here = |pod: &&Value| pod["spec"]["nodeName"] == node;
        for (number, pod) in self.pods.iter().filter(here).enumerate() {
            let Some(address) = address(pod) else {
                continue;
            };
            let about = |policy: &&Value| {
                let same = policy["metadata"]["namespace"] == pod["metadata"]["namespace"];
                let ingress = list(&policy["spec"]["policyTypes"]).any(|kind| kind == "Ingress");
                let selector = &policy["spec"]["podSelector"];
                same && ingress && selects(selector, &pod["metadata"]["labels"])
            };
            let mut about = self.policies.iter().filter(about).peekable();
            if about.peek().is_none() {
                continue;
            }
            let _ = writeln!(jumps, "ip daddr {address} jump pod{number}");
            let _ = writeln!(chains, "chain pod{number} {{");
            for policy in about {
                for rule in list(&policy["spec"]["ingress"]) {
                    chains.push_str(&self.accepts(policy, rule));
                }
            }
            chains.push_str(&refusal);
            chains.push_str("drop\n}\n");
        }
        format!(
            "table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{chains}chain forward {{\n\
             type filter hook forward priority -5; policy accept;\n\
             ct state established,related accept\n{jumps}}}\n}}\n"
        )
    }

    /// Refuses whoever is known: a client fails at once where it is refused, and a pod runs before its address is told.
    fn refusal(&self) -> String {
        let known = out_of(self.pods.iter().filter_map(address));
        let refused = |known: String| format!("{known}meta l4proto tcp reject with tcp reset\n");
        known.map(refused).unwrap_or_default()
    }

    /// One rule of a policy: from these addresses, to these ports.
    fn accepts(&self, policy: &Value, rule: &Value) -> String {
        let from = match rule["from"].as_array() {
            None => String::new(),
            Some(peers) => {
                match out_of(peers.iter().flat_map(|peer| self.addresses(policy, peer))) {
                    Some(from) => from,
                    None => return String::new(),
                }
            }
        };
        let Some(ports) = rule["ports"].as_array() else {
            return format!("{from}accept\n");
        };
        let line = |port: &Value| {
            let number = port["port"].as_u64().expect("ports are numbers here");
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_lowercase();
            format!("{from}{protocol} dport {number} accept\n")
        };
        ports.iter().map(line).collect()
    }

    /// The addresses of a peer of a policy.
    fn addresses(&self, policy: &Value, peer: &Value) -> Vec<String> {
        if let Some(block) = peer["ipBlock"]["cidr"].as_str() {
            let except = peer["ipBlock"]["except"].as_array();
            assert!(except.is_none(), "exceptions are not played here");
            return vec![block.to_owned()];
        }
        let own = &policy["metadata"]["namespace"];
        let among = |pod: &&Value| match peer["namespaceSelector"].is_null() {
            true => pod["metadata"]["namespace"] == *own,
            false => self.is_in(&peer["namespaceSelector"], &pod["metadata"]["namespace"]),
        };
        let pods = self.pods.iter().filter(among);
        let pods = pods.filter(|pod| selects(&peer["podSelector"], &pod["metadata"]["labels"]));
        pods.filter_map(address).map(str::to_owned).collect()
    }

    /// Whether a namespace is what a selector wants.
    fn is_in(&self, selector: &Value, namespace: &Value) -> bool {
        let mut all = self.namespaces.iter();
        let found = all.find(|one| one["metadata"]["name"] == *namespace);
        found.is_some_and(|one| selects(selector, &one["metadata"]["labels"]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, address: &str, labels: &Value) -> Value {
        json!({
            "metadata": { "name": name, "namespace": "data", "labels": labels },
            "spec": { "nodeName": "one" }, "status": { "podIP": address, "phase": "Running" },
        })
    }

    #[test]
    fn who_is_selected_comes_in_and_nobody_else() {
        let policy = json!({
            "metadata": { "namespace": "data" },
            "spec": {
                "podSelector": { "matchLabels": { "is": "member" } }, "policyTypes": ["Ingress"],
                "ingress": [
                    { "ports": [{ "port": 2379, "protocol": "TCP" }], "from": [
                        { "podSelector": { "matchLabels": { "is": "client" } } },
                        { "ipBlock": { "cidr": "172.18.0.0/16" } },
                    ] },
                    { "ports": [{ "port": 2380 }], "from": [
                        { "podSelector": { "matchLabels": { "is": "nobody" } } },
                    ] },
                    { "ports": [{ "port": 2381 }] },
                ],
            },
        });
        let world = World {
            pods: vec![
                pod("a", "10.0.0.1", &json!({ "is": "member" })),
                pod("b", "10.0.0.2", &json!({ "is": "client" })),
                pod("c", "10.0.0.3", &json!({ "is": "stranger" })),
            ],
            namespaces: Vec::new(),
            policies: vec![policy],
        };
        let rules = world.rules("one");
        assert!(rules.contains(
            "chain pod0 {\nip saddr { 10.0.0.2, 172.18.0.0/16 } tcp dport 2379 accept\n\
             tcp dport 2381 accept\nip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } meta l4proto tcp \
             reject with tcp reset\ndrop\n}\n"
        ));
        assert_eq!(rules.matches("jump").count(), 1, "{rules}");
        assert!(!world.rules("two").contains("jump"));
    }

    #[test]
    fn expressions_are_kubernetes() {
        let one = |operator: &str, values: &Value| {
            let expression = json!({ "key": "a", "operator": operator, "values": values });
            json!({ "matchExpressions": [expression] })
        };
        let labels = json!({ "a": "1" });
        assert!(selects(&one("In", &json!(["1", "2"])), &labels));
        assert!(!selects(&one("NotIn", &json!(["1"])), &labels));
        assert!(selects(&one("NotIn", &json!(["1"])), &json!({})));
        assert!(selects(&one("Exists", &json!([])), &labels));
        assert!(!selects(&one("DoesNotExist", &json!([])), &labels));
        assert!(selects(&json!({}), &labels));
    }
}
