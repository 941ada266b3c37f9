//! Whether a store can be read: asked once for each change of it or of the Secrets that it is reached by, and again
//! while it cannot.

#[cfg(test)]
pub(super) mod passes;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::runtime::controller::Action as Next;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use crate::api::{
    BACKUP_FINALIZER, ConditionKind, EngramBackup, EngramBackupStore, EngramBackupStoreStatus,
    Reason, STORE_FINALIZER, condition, is_true, set_condition,
};
use crate::desired::{self, Job, StoreAccess, Tool};

use super::mutant::{Mutant, planted};
use super::tool::{self, Run};
use super::{
    Context, Course, Error, Version, has_finalizer, now, set_finalizer, set_standing, write_status,
};

const SOON: Duration = Duration::from_secs(3);
/// How long a store waits for backups that are deleted together with it.
const TOGETHER_SECONDS: i64 = 10;
/// A store that could not be read is asked again after so long.
const AGAIN: Duration = Duration::from_secs(120);
/// One that could is asked again after so long.
const LATER: Duration = Duration::from_secs(6 * 3600);
/// Whether its Secrets are as they were is looked at so often: nobody tells of them.
const LOOK: Duration = Duration::from_secs(120);
/// How long an answer may take.
const DEADLINE_SECONDS: i64 = 300;

/// One pass.
pub(super) async fn reconcile(
    seen: Arc<EngramBackupStore>,
    context: Arc<Context>,
) -> Result<Next, Error> {
    let namespace = seen.namespace().unwrap_or_default();
    if let Some(wait) = rests(&seen)
        && is_reached_as_before(&context, &seen).await?
    {
        return Ok(Next::requeue(wait.min(LOOK)));
    }
    let api: Api<EngramBackupStore> = Api::namespaced(context.client.clone(), &namespace);
    let Some(store) = api.get_opt(&seen.name_any()).await? else {
        context.metrics.forget_keys(&namespace, &seen.name_any());
        context.has_asked(&seen.uid().unwrap_or_default());
        return Ok(Next::await_change());
    };
    if let Some(deleted) = &store.meta().deletion_timestamp {
        let age = now().as_second() - deleted.0.as_second();
        context.metrics.forget_keys(&namespace, &store.name_any());
        context.has_asked(&store.uid().unwrap_or_default());
        return release(&context, &store, age).await;
    }
    if store.spec.encryption.is_none() {
        context.metrics.forget_keys(&namespace, &store.name_any());
    }
    let version = Version::of(&store);
    let before = store.status.clone().unwrap_or_default();
    let access = desired::access(&store);
    let secrets = secrets(&context, &namespace, &access).await?;
    if let Some(wait) = rests(&store).filter(|_| is_known(&store, secrets.as_ref())) {
        return Ok(Next::requeue(wait.min(LOOK)));
    }
    let generation = store.metadata.generation;
    // No number at its end: a member's pod has one, of a cluster of whatever name.
    let (of, number) = (store.name_any(), generation.unwrap_or_default());
    let name = format!("{of}-{number}-store");
    let tool = Tool {
        name: name.clone(),
        namespace: namespace.clone(),
        cluster_name: "none",
        cluster: None,
        image: &context.settings.image,
        job: match store.spec.encryption {
            Some(_) => Job::Keys,
            None => Job::Probe,
        },
        access: &access,
        deadline: DEADLINE_SECONDS,
        owner: store.controller_owner_ref(&()),
    };
    let uid = store.uid().unwrap_or_default();
    if !context.is_asked_with(&uid, secrets.as_ref()) {
        // What was begun with others, or by another operator, says nothing of these.
        if !tool::clear(&context, &namespace, &name).await? {
            return Ok(Next::requeue(SOON));
        }
        context.asks_with(&uid, secrets.clone());
    }
    let mut missing = None;
    let (over, holds, reason, message) = match tool::run(&context, &tool).await? {
        Run::Running => return Ok(Next::requeue(SOON)),
        Run::Waiting { reason, message } => (false, false, reason, message),
        Run::Done(said) => {
            missing = keys_missing(&store, &said);
            let message = "the store can be read".to_owned();
            (true, true, Reason::AsExpected, message)
        }
        Run::Failed { reason, message } => (true, false, reason, message),
    };
    let mut status = before.clone();
    status.url = Some(access.url.clone());
    if over {
        status.observed_generation = generation;
        status.secrets = secrets;
        context.has_asked(&uid);
        // The time of the last answer is that of the condition: it says when to ask again.
        status.conditions.clear();
        tool::clear(&context, &namespace, &name).await?;
        // As an earlier operator called it.
        tool::clear(&context, &namespace, &format!("{of}-store-{number}")).await?;
    }
    let kind = ConditionKind::Reachable;
    let conditions = &mut status.conditions;
    let text = message.clone();
    set_condition(conditions, kind, holds, reason, text, generation, now());
    if let Some(missing) = &missing {
        say_keys(conditions, missing, generation);
        let labels = [namespace.as_str(), &store.name_any()];
        let count = i64::try_from(missing.len()).unwrap_or(i64::MAX);
        let gauge = &context.metrics.store_keys_missing;
        gauge.with_label_values(&labels).set(count);
    }
    stand(conditions, generation);
    let is_locked = |status: &EngramBackupStoreStatus| {
        let keys = condition(&status.conditions, ConditionKind::KeysAvailable);
        keys.filter(|one| one.status == "False")
            .map(|one| one.message.clone())
    };
    let locked = is_locked(&status).filter(|_| is_locked(&before).is_none());
    if status != before {
        write_status(&context, &store, &version, &status).await?;
    }
    if !holds && (is_true(&before.conditions, kind) || before.conditions.is_empty()) {
        context.event(&store, true, reason.as_str(), &message).await;
    }
    if let Some(message) = locked {
        let word = Reason::KeyMissing.as_str();
        context.event(&store, true, word, &message).await;
    }
    let is_good = holds && missing.is_none_or(|missing| missing.is_empty());
    Ok(Next::requeue(match (over, is_good) {
        (false, _) => SOON,
        (true, true) => LATER,
        (true, false) => AGAIN,
    }))
}

/// Which Secrets a store is reached by, as a digest of their names and versions; none where it has none.
async fn secrets(
    context: &Context,
    namespace: &str,
    access: &StoreAccess,
) -> Result<Option<String>, Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let mut found = Vec::new();
    for name in access.secrets() {
        let secret = api.get_opt(name).await?;
        let version = secret.map(|secret| (secret.uid(), secret.resource_version()));
        found.push(json!([name, version]));
    }
    Ok((!found.is_empty()).then(|| desired::digest(&found.into())))
}

/// Whether a store was last asked with these. Of one that an earlier operator has asked that is not known, and taken for
/// so.
fn is_known(store: &EngramBackupStore, secrets: Option<&String>) -> bool {
    let asked = store
        .status
        .as_ref()
        .and_then(|status| status.secrets.as_ref());
    asked.is_none() || asked == secrets || planted(Mutant::SecretsUnseen)
}

/// Whether nothing has become of what a store is reached by since it was asked. Its object may be old: where something
/// has, it is read.
async fn is_reached_as_before(context: &Context, seen: &EngramBackupStore) -> Result<bool, Error> {
    if seen.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let namespace = seen.namespace().unwrap_or_default();
    let secrets = secrets(context, &namespace, &desired::access(seen)).await?;
    Ok(is_known(seen, secrets.as_ref()))
}

/// The keys that backups need and that the store does not name; none where it is not encrypted.
fn keys_missing(store: &EngramBackupStore, said: &str) -> Option<Vec<String>> {
    store.spec.encryption.as_ref()?;
    let said: tool::Keys = serde_json::from_str(said).ok()?;
    Some(said.missing)
}

/// What they ask it for: the answers.
const ANSWERS: [ConditionKind; 2] = [ConditionKind::Reachable, ConditionKind::KeysAvailable];

/// The first answer that is not good, or else the first.
fn answer(conditions: &[Condition]) -> Option<&Condition> {
    let mut all = ANSWERS
        .iter()
        .filter_map(|kind| condition(conditions, *kind));
    let first = all.next()?;
    let bad = [first]
        .into_iter()
        .chain(all)
        .find(|one| one.status != "True");
    Some(bad.unwrap_or(first))
}

/// Says how it stands to tools that go by kstatus. What does not pass by itself has failed to them.
fn stand(conditions: &mut Vec<Condition>, generation: Option<i64>) {
    let Some(one) = answer(conditions).cloned() else {
        return;
    };
    let reason = Reason::of(&one.reason).unwrap_or(Reason::Failed);
    let course = match one.status == "True" {
        true => Course::Good,
        false if reason.needs_person() => Course::Bad,
        false => Course::Open,
    };
    set_standing(conditions, course, reason, &one.message, generation);
}

fn say_keys(conditions: &mut Vec<Condition>, missing: &[String], generation: Option<i64>) {
    let (kind, holds) = (ConditionKind::KeysAvailable, missing.is_empty());
    let (reason, message) = match holds {
        true => (
            Reason::AsExpected,
            "every backup can be decrypted".to_owned(),
        ),
        false => (
            Reason::KeyMissing,
            format!(
                "backups are encrypted with key {}, which encryption.keys does not have: put back the Secret with it, or delete those backups; until then no backup is taken of their clusters, and nothing is pruned",
                missing.join(", ")
            ),
        ),
    };
    set_condition(conditions, kind, holds, reason, message, generation, now());
}

/// Keeps a store for as long as a backup's copy may have to be deleted by way of it.
///
/// # Errors
/// The API server refused.
pub(super) async fn hold(context: &Context, store: &EngramBackupStore) -> Result<(), Error> {
    match store.meta().deletion_timestamp {
        Some(_) => Ok(()),
        None => set_finalizer(context, store, STORE_FINALIZER, true)
            .await
            .map(drop),
    }
}

/// Lets a store go that was deleted `age` seconds ago, after the backups that are deleted together with it.
async fn release(context: &Context, store: &EngramBackupStore, age: i64) -> Result<Next, Error> {
    let namespace = store.namespace().unwrap_or_default();
    let api: Api<EngramBackup> = Api::namespaced(context.client.clone(), &namespace);
    let backups = api.list(&ListParams::default()).await?;
    let goes = |backup: &EngramBackup| {
        backup.meta().deletion_timestamp.is_some()
            && backup.spec.store_ref.name == store.name_any()
            && has_finalizer(backup, BACKUP_FINALIZER)
    };
    // What is deleted with it may be deleted a moment later.
    if age < TOGETHER_SECONDS || backups.iter().any(goes) {
        return Ok(Next::requeue(SOON));
    }
    set_finalizer(context, store, STORE_FINALIZER, false).await?;
    Ok(Next::await_change())
}

/// How long a store that was asked need not be asked again.
fn rests(store: &EngramBackupStore) -> Option<Duration> {
    let status = store.status.as_ref()?;
    let same = status.observed_generation == store.metadata.generation;
    let asked = condition(&status.conditions, ConditionKind::Reachable).filter(|_| same)?;
    let is_good = answer(&status.conditions).is_some_and(|one| one.status == "True");
    let rest = if is_good { LATER } else { AGAIN };
    let elapsed = now().as_second() - asked.last_transition_time.0.as_second();
    let left = rest.saturating_sub(Duration::from_secs(
        u64::try_from(elapsed).unwrap_or_default(),
    ));
    (!left.is_zero()).then_some(left)
}
