//! What the operator may do, by the roles that it is installed with: what these do not allow nobody can test.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use hyper::Method;
use serde::Deserialize;

#[derive(Deserialize)]
struct Role {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let roles = [
        include_str!("../../../manifests/rbac/operator.yaml"),
        include_str!("../../../manifests/rbac/nodes.yaml"),
        include_str!("../../../manifests/rbac/lease.yaml"),
    ];
    let rules = |text| {
        let role: Role = serde_yaml_ng::from_str(text).expect("a role");
        role.rules
    };
    roles.into_iter().flat_map(rules).collect()
});

/// A verb, a group and a resource.
type Right = (String, String, String);

/// What was asked for in this process.
static USED: Mutex<BTreeSet<Right>> = Mutex::new(BTreeSet::new());

/// The rights that nobody has asked by in this process.
pub fn unused() -> Vec<Right> {
    let used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::new();
    for rule in RULES.iter() {
        for (group, resource) in pairs(&rule.api_groups, &rule.resources) {
            let rights = rule.verbs.iter();
            all.extend(rights.map(|verb| (verb.clone(), group.clone(), resource.clone())));
        }
    }
    all.retain(|right| !used.contains(right));
    all
}

fn pairs<'a>(
    groups: &'a [String],
    resources: &'a [String],
) -> impl Iterator<Item = (&'a String, &'a String)> {
    let of = move |group| resources.iter().map(move |resource| (group, resource));
    groups.iter().flat_map(of)
}

fn allows(verb: &str, group: &str, resource: &str) -> bool {
    let has = |all: &[String], one: &str| all.iter().any(|name| name == one);
    RULES.iter().any(|rule| {
        has(&rule.api_groups, group) && has(&rule.resources, resource) && has(&rule.verbs, verb)
    })
}

/// The group and the resource that a path is of, a subresource with it, and whether it names one object.
fn parsed(path: &str) -> (&str, String, bool) {
    let mut parts = path.trim_matches('/').split('/');
    let group = match parts.next() {
        Some("apis") => parts.next().unwrap_or_default(),
        _ => "",
    };
    let mut rest: Vec<&str> = parts.skip(1).collect();
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        rest.drain(..2);
    }
    let resource = rest.first().copied().unwrap_or_default();
    let resource = match rest.get(2) {
        Some(sub) => format!("{resource}/{sub}"),
        None => resource.to_owned(),
    };
    (group, resource, rest.len() > 1)
}

/// Fails the test that asks for what the operator has no right to. `makes`: an apply of what is not there.
pub(super) fn must_allow(method: &Method, path: &str, makes: bool) {
    let (group, resource, one) = parsed(path);
    let verb = match method.as_str() {
        "GET" if one => "get",
        "GET" => "list",
        "POST" => "create",
        "PATCH" => "patch",
        "PUT" => "update",
        _ => "delete",
    };
    let verbs = [Some(verb), makes.then_some("create")];
    for verb in verbs.into_iter().flatten() {
        assert!(
            allows(verb, group, &resource),
            "manifests/rbac has no right to {verb} {resource} of {group:?}: {path}"
        );
        let right = (verb.to_owned(), group.to_owned(), resource.clone());
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_held_against_the_roles() {
        let pod = "/api/v1/namespaces/data/pods/demo-1";
        assert_eq!(parsed(pod), ("", "pods".to_owned(), true));
        let status = "/apis/engram.dev/v1alpha1/namespaces/data/engramclusters/demo/status";
        let wanted = ("engram.dev", "engramclusters/status".to_owned(), true);
        assert_eq!(parsed(status), wanted);
        assert_eq!(parsed("/api/v1/nodes/n1"), ("", "nodes".to_owned(), true));
        assert!(allows("create", "", "pods/eviction"));
        // Secrets are read one by one; members' objects are replaced by nobody; nodes are looked at.
        for (verb, resource) in [
            ("list", "secrets"),
            ("watch", "secrets"),
            ("delete", "secrets"),
            ("update", "pods"),
            ("list", "nodes"),
            ("create", "pods/exec"),
        ] {
            assert!(!allows(verb, "", resource), "{verb} {resource}");
        }
    }
}
