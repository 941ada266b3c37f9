//! A role: what it allows, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::Api;
use kube::runtime::controller::Action as Next;
use kube::{Resource as _, ResourceExt as _};

use crate::api::{ACCESS_FINALIZER, DeletionPolicy, EngramRole, KeyAccess, Permission, Reason};
use crate::etcd::{Grant, MemberClient};

use super::super::cluster::HELD_PAUSE;
use super::super::{Context, Error, Version, set_finalizer, write_status};
use super::{Cluster, Leave, SOON, Stand, Subject, alone, cluster, leave};

impl Subject for EngramRole {
    fn cluster(&self) -> &str {
        &self.spec.cluster_ref.name
    }

    fn named(&self) -> Option<&String> {
        self.spec.name.as_ref()
    }

    fn stays(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Retain
    }
}

/// One pass.
pub(in super::super) async fn reconcile(
    seen: Arc<EngramRole>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let api: Api<EngramRole> = Api::namespaced(context.client.clone(), &namespace);
    let Some(role) = api.get_opt(&seen.name_any()).await? else {
        context.forget_object(&seen.uid().unwrap_or_default());
        return Ok(Next::await_change());
    };
    let found = cluster(&context, &namespace, &role.spec.cluster_ref.name).await?;
    if role.meta().deletion_timestamp.is_some() {
        return release(&context, &api, &role, found).await;
    }
    if matches!(found, Cluster::Anothers) {
        return Ok(Next::requeue(HELD_PAUSE));
    }
    if set_finalizer(&context, &role, ACCESS_FINALIZER, !role.stays()).await? {
        return Ok(Next::requeue(SOON));
    }
    let stand = match found {
        Cluster::Serves(_, client) => Stand::of(advance(&api, &role, &client).await)?,
        Cluster::Waits(reason, message) => Stand::Waits(reason, message),
        Cluster::Gone | Cluster::Anothers => Stand::nowhere(role.cluster()),
    };
    let version = Version::of(&role);
    let before = role.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.name = Some(role.name_in_cluster());
    status.observed_generation = role.metadata.generation;
    stand.say(&mut status.conditions, role.metadata.generation);
    if status != before {
        write_status(&context, &role, &version, &status).await?;
    }
    Ok(Next::requeue(stand.next()))
}

async fn advance(
    api: &Api<EngramRole>,
    role: &EngramRole,
    client: &MemberClient,
) -> Result<String, Error> {
    let name = role.name_in_cluster();
    alone(api, role).await?;
    let wanted = grants(&role.spec.permissions)?;
    let has = match client.role(&name).await? {
        Some(has) => has,
        None => {
            client.add_role(&name).await?;
            Vec::new()
        }
    };
    let changes = changes(&has, &wanted);
    for grant in &changes.revoked {
        client.disallow(&name, grant).await?;
    }
    for grant in &changes.granted {
        client.allow(&name, grant).await?;
    }
    Ok(format!("{} permissions", wanted.len()))
}

/// Takes the role from the cluster before its object goes.
async fn release(
    context: &Context,
    api: &Api<EngramRole>,
    role: &EngramRole,
    found: Cluster,
) -> Result<Next, Error> {
    match leave(context, api, role, found).await? {
        Leave::Nothing => return Ok(Next::await_change()),
        Leave::Later(wait) => return Ok(Next::requeue(wait)),
        Leave::Already => {}
        Leave::Ask(client) => client.delete_role(&role.name_in_cluster()).await?,
    }
    set_finalizer(context, role, ACCESS_FINALIZER, false).await?;
    context.forget_object(&role.uid().unwrap_or_default());
    Ok(Next::await_change())
}

/// What to take away and what to give.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    revoked: Vec<Grant>,
    granted: Vec<Grant>,
}

/// From what a role allows to what it should. What it says otherwise of the same keys is written over.
fn changes(has: &[Grant], wanted: &[Grant]) -> Changes {
    let same_keys = |one: &Grant, other: &Grant| (&one.key, &one.end) == (&other.key, &other.end);
    let extra = has
        .iter()
        .filter(|one| !wanted.iter().any(|other| same_keys(one, other)));
    let missing = wanted.iter().filter(|one| !has.contains(one));
    Changes {
        revoked: extra.cloned().collect(),
        granted: missing.cloned().collect(),
    }
}

/// What is to be allowed, in etcd's words.
fn grants(permissions: &[Permission]) -> Result<Vec<Grant>, Error> {
    let mut all = BTreeMap::new();
    for permission in permissions {
        let grant = grant(permission);
        let keys = (grant.key.clone(), grant.end.clone());
        if all.insert(keys, grant).is_some() {
            let message = format!(
                "permissions name the same keys twice ({}): once, with access ReadWrite, says both",
                permission
                    .key
                    .as_ref()
                    .or(permission.prefix.as_ref())
                    .map_or("", String::as_str)
            );
            return Err(Error::input(Reason::InvalidSpec, message));
        }
    }
    Ok(all.into_values().collect())
}

fn grant(permission: &Permission) -> Grant {
    let kind = match permission.access {
        KeyAccess::Read => 0,
        KeyAccess::Write => 1,
        KeyAccess::ReadWrite => 2,
    };
    let bytes = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
    let (key, end) = match &permission.prefix {
        // etcd's way to say all keys.
        Some(prefix) if prefix.is_empty() => (vec![0], vec![0]),
        Some(prefix) => (prefix.clone().into_bytes(), after(prefix.as_bytes())),
        None => (bytes(&permission.key), bytes(&permission.range_end)),
    };
    Grant { kind, key, end }
}

/// The first key behind all those that begin so. UTF-8 has no byte 0xff, so there is one.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn permissions(list: serde_json::Value) -> Vec<Permission> {
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn keys_ranges_and_prefixes_are_etcds() {
        let wanted = permissions(json!([
            { "access": "Read", "key": "a" },
            { "access": "Write", "key": "b", "rangeEnd": "d" },
            { "access": "ReadWrite", "prefix": "/app/" },
            { "access": "Read", "prefix": "" },
        ]));
        let pairs: Vec<(i32, Vec<u8>, Vec<u8>)> = wanted
            .iter()
            .map(grant)
            .map(|one| (one.kind, one.key, one.end))
            .collect();
        assert_eq!(pairs[0], (0, b"a".to_vec(), vec![]));
        assert_eq!(pairs[1], (1, b"b".to_vec(), b"d".to_vec()));
        assert_eq!(pairs[2], (2, b"/app/".to_vec(), b"/app0".to_vec()));
        assert_eq!(pairs[3], (0, vec![0], vec![0]));
    }

    #[test]
    fn what_differs_is_brought_round_and_nothing_else() {
        let wanted = grants(&permissions(json!([
            { "access": "Read", "key": "a" }, { "access": "ReadWrite", "key": "b" },
        ])))
        .unwrap();
        let grant = |kind, key: &str| Grant {
            kind,
            key: key.into(),
            end: Vec::new(),
        };
        // One is as it should be, one allows too little, one is nobody's.
        let has = [grant(0, "a"), grant(0, "b"), grant(2, "c")];
        let found = changes(&has, &wanted);
        assert_eq!(found.revoked, [grant(2, "c")]);
        assert_eq!(found.granted, [grant(2, "b")]);
        assert_eq!(changes(&wanted, &wanted), Changes::default());
    }

    #[test]
    fn the_same_keys_twice_would_undo_each_other() {
        let twice = permissions(json!([
            { "access": "Read", "prefix": "a" }, { "access": "Write", "prefix": "a" },
        ]));
        let refused = grants(&twice).unwrap_err().to_string();
        assert!(refused.contains("ReadWrite"), "{refused}");
    }
}
