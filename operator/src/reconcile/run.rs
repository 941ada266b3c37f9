//! Starts every controller, and ends them together.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Resource as _, ResourceExt};

use crate::api::{
    EngramBackup, EngramBackupSchedule, EngramBackupStore, EngramCluster, EngramImageCatalog,
    EngramMember, EngramOperation, EngramRestore, EngramRole, EngramUser,
};

use super::calm::{self, News};
use super::context::Form;
use super::{
    Context, Error, Namespaced, access, backup, cluster, is_overtaken, member, operation, restore,
    schedule, store,
};

/// Changes of one object that come close together are looked at once.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Failures in a row after which that is said at an object.
const TOLD_AFTER: u32 = 4;

/// How long a pass of a cluster may take. What takes longer (making room) is done beside it.
const CLUSTER_PASS_LIMIT: Duration = Duration::from_secs(180);
/// Any other: an operation waits for a member that works through all of its data.
const PASS_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Every object that a controller may look after.
trait Kind: Namespaced + Send + Sync + 'static {}
impl<K> Kind for K where K: Namespaced + Send + Sync + 'static {}

/// Where controllers look: one namespace, or all.
type Scope = Option<String>;

/// Runs all controllers until the process is asked to end (SIGTERM, SIGINT): for each namespace that was
/// named its own, so that rights in those are enough.
pub async fn run(context: Arc<Context>) {
    let named = context.settings.watch_namespaces.iter().cloned().map(Some);
    let mut scopes: Vec<Scope> = named.collect();
    if scopes.is_empty() {
        scopes.push(None);
    }
    join_all(scopes.iter().map(|scope| run_in(&context, scope))).await;
}

/// Runs them in one scope.
async fn run_in(context: &Arc<Context>, scope: &Scope) {
    let ours = ours();
    let clusters = clusters(context, scope);
    let backups = controller::<EngramBackup>(context, scope)
        .owns(scoped::<Pod>(context, scope), ours.clone());
    let schedules = controller::<EngramBackupSchedule>(context, scope)
        .owns(scoped::<Pod>(context, scope), ours.clone())
        .watches(
            scoped::<EngramBackup>(context, scope),
            watcher::Config::default(),
            |backup: EngramBackup| schedule::schedule_of(&backup),
        );
    let restores = controller::<EngramRestore>(context, scope).watches(
        scoped::<EngramCluster>(context, scope),
        watcher::Config::default(),
        |cluster: EngramCluster| restore::restore_of(&cluster),
    );
    let stores =
        controller::<EngramBackupStore>(context, scope).owns(scoped::<Pod>(context, scope), ours);
    let operations = controller::<EngramOperation>(context, scope);
    let members = controller::<EngramMember>(context, scope);
    let users = controller::<EngramUser>(context, scope);
    let roles = controller::<EngramRole>(context, scope);
    tokio::join!(
        drive_when(clusters, context, cluster::reconcile, |seen, context| {
            context.start.wait(seen)
        }),
        drive(members, context, member::reconcile),
        drive(backups, context, backup::reconcile),
        drive(schedules, context, schedule::reconcile),
        drive(restores, context, restore::reconcile),
        drive(stores, context, store::reconcile),
        drive(operations, context, operation::reconcile),
        drive(users, context, access::user),
        drive(roles, context, access::role),
    );
}

/// What the operator made.
fn ours() -> watcher::Config {
    watcher::Config::default().labels("app.kubernetes.io/managed-by=engram-operator")
}

/// Clusters, and whatever is news of one.
fn clusters(context: &Arc<Context>, scope: &Scope) -> Controller<EngramCluster> {
    let clusters = controller::<EngramCluster>(context, scope);
    let store = clusters.store();
    context.start.counts(store.clone());
    let clusters = parts::<Pod>(clusters, context, scope, News::Members);
    let clusters = parts::<PersistentVolumeClaim>(clusters, context, scope, News::Members);
    let clusters = parts::<Service>(clusters, context, scope, News::Children);
    let clusters = parts::<PodDisruptionBudget>(clusters, context, scope, News::Children);
    let clusters = parts::<NetworkPolicy>(clusters, context, scope, News::Children);
    let member = |one: &EngramMember| of_name(one, &one.spec.cluster_ref.name);
    let backup = |one: &EngramBackup| of_name(one, &one.spec.cluster_ref.name);
    let schedule = |one: &EngramBackupSchedule| of_name(one, &one.spec.cluster_ref.name);
    let catalogs = store.clone();
    let listed = move |one: &EngramImageCatalog| listed_in(&catalogs, one);
    let users = move |one: &EngramBackupStore| users_of(&store, one);
    let all = watcher::Config::default;
    clusters
        .watches(
            scoped(context, scope),
            all(),
            news(context, News::Members, member),
        )
        .watches(
            scoped(context, scope),
            all(),
            news(context, News::Backups, backup),
        )
        .watches(
            scoped(context, scope),
            all(),
            news(context, News::Backups, schedule),
        )
        .watches(
            scoped(context, scope),
            all(),
            news(context, News::Members, users),
        )
        .watches(
            scoped(context, scope),
            all(),
            news(context, News::Members, listed),
        )
}

type Cluster = ObjectRef<EngramCluster>;

/// Has clusters hear of what the operator made of a kind.
fn parts<K: Kind>(
    clusters: Controller<EngramCluster>,
    context: &Arc<Context>,
    scope: &Scope,
    of: News,
) -> Controller<EngramCluster> {
    let api = scoped::<K>(context, scope);
    clusters.watches(api, ours(), news(context, of, cluster_of::<K>))
}

/// Tells of news of the clusters that an object is `whose`, which has a pass of each begin.
fn news<K, I>(
    context: &Arc<Context>,
    of: News,
    whose: impl Fn(&K) -> I + Send + Sync + 'static,
) -> impl Fn(K) -> Vec<Cluster> + Send + Sync + 'static
where
    I: IntoIterator<Item = Cluster>,
{
    let context = context.clone();
    move |object| {
        let clusters: Vec<Cluster> = whose(&object).into_iter().collect();
        for cluster in &clusters {
            let namespace = cluster.namespace.as_deref().unwrap_or_default();
            context.calm.news(&calm::key(namespace, &cluster.name), of);
        }
        clusters
    }
}

/// The cluster of that name beside an object.
fn of_name(beside: &impl ResourceExt, name: &str) -> Option<Cluster> {
    Some(ObjectRef::new(name).within(&beside.namespace()?))
}

/// Clusters whose pods are told of a store: to archive to, or to be filled from.
fn users_of(clusters: &Store<EngramCluster>, store: &EngramBackupStore) -> Vec<Cluster> {
    let (name, namespace) = (store.name_any(), store.namespace());
    let uses = |cluster: &EngramCluster| {
        let archive = cluster.spec.archive.as_ref();
        let archives = archive.is_some_and(|archive| archive.store_ref.name == name);
        let from = cluster.recovery();
        let begins = from.is_some_and(|from| from.store_ref.name == name);
        cluster.namespace() == namespace && (archives || begins)
    };
    named(&clusters.state_filter(uses))
}

/// Clusters that have their image from a catalog.
fn listed_in(clusters: &Store<EngramCluster>, catalog: &EngramImageCatalog) -> Vec<Cluster> {
    let (name, namespace) = (catalog.name_any(), catalog.namespace());
    let uses = |cluster: &EngramCluster| {
        let asked = cluster.spec.image_catalog.as_ref();
        cluster.namespace() == namespace && asked.is_some_and(|asked| asked.name == name)
    };
    named(&clusters.state_filter(uses))
}

fn named(clusters: &[Arc<EngramCluster>]) -> Vec<Cluster> {
    let clusters = clusters.iter();
    clusters.map(|one| ObjectRef::from_obj(&**one)).collect()
}

fn scoped<K: Kind>(context: &Context, scope: &Scope) -> Api<K> {
    match scope {
        Some(namespace) => Api::namespaced(context.watches.clone(), namespace),
        None => Api::all(context.watches.clone()),
    }
}

fn controller<K: Kind>(context: &Context, scope: &Scope) -> Controller<K>
where
    K::DynamicType: Eq + Hash + Clone,
{
    let config = Config::default()
        .debounce(DEBOUNCE)
        .concurrency(context.settings.concurrency);
    Controller::new(scoped::<K>(context, scope), watcher::Config::default())
        .with_config(config)
        .shutdown_on_signal()
}

/// The cluster that something was made for: by its label, or by whose it is where somebody has taken that off.
fn cluster_of<K: ResourceExt>(part: &K) -> Option<Cluster> {
    if let Some(cluster) = part.labels().get("engram.dev/cluster") {
        return of_name(part, cluster);
    }
    part.owner_references().iter().find_map(|owner| {
        let name = match owner.kind.as_str() {
            "EngramMember" => owner.name.rsplit_once('-')?.0,
            "EngramCluster" => &owner.name,
            _ => return None,
        };
        of_name(part, name)
    })
}

/// Runs one controller: counts its passes, and has failures wait longer and longer.
async fn drive<K, F>(
    controller: Controller<K>,
    context: &Arc<Context>,
    pass: fn(Arc<K>, Arc<Context>) -> F,
) where
    K: Kind,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    drive_when(controller, context, pass, |_, _| None).await;
}

/// The same, of objects that may have to wait for another reason as well.
async fn drive_when<K, F>(
    controller: Controller<K>,
    context: &Arc<Context>,
    pass: fn(Arc<K>, Arc<Context>) -> F,
    waits: fn(&K, &Context) -> Option<Duration>,
) where
    K: Kind,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let counted = move |object: Arc<K>, context: Arc<Context>| async move {
        let left = context.must_wait(&key(&*object), form(&*object));
        if let Some(left) = left.or_else(|| waits(&object, &context)) {
            return Ok(Action::requeue(left));
        }
        let began = Instant::now();
        let kind = K::kind(&());
        let result = bounded(&*object, &context, pass(object.clone(), context.clone())).await;
        let word = if result.is_ok() { "success" } else { "error" };
        context
            .metrics
            .reconciles
            .with_label_values(&[&*kind, word])
            .inc();
        let seconds = began.elapsed().as_secs_f64();
        context
            .metrics
            .durations
            .with_label_values(&[&*kind])
            .observe(seconds);
        match &result {
            Ok(_) => context.succeeded(&key(&*object)),
            Err(error) => tell(&context, &*object, error).await,
        }
        result
    };
    let on_error = |object: Arc<K>, error: &Error, context: Arc<Context>| {
        let kind = K::kind(&());
        let wait = context.failed(&key(&*object), form(&*object));
        if !is_overtaken(error) {
            let labels = [&*kind, error.label()];
            context.metrics.errors.with_label_values(&labels).inc();
        }
        context
            .metrics
            .backoff
            .with_label_values(&[&*kind])
            .set(wait.as_secs_f64());
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        tracing::warn!(kind = %kind, %namespace, %name, %error, ?wait, "a pass failed");
        Action::requeue(wait)
    };
    let passes = controller.run(counted, on_error, context.clone());
    // Failures are told of where they happen; what is left are the watches' own.
    let restarts = context
        .metrics
        .watch_restarts
        .with_label_values(&[&*K::kind(&())]);
    passes
        .for_each(|result| async {
            if let Err(error @ kube::runtime::controller::Error::QueueError(_)) = result {
                restarts.inc();
                tracing::warn!(%error, "a watch failed");
            }
        })
        .await;
}

/// Says at an object that its passes fail, which its conditions may not: once, when it has not gone by itself.
async fn tell<K: Kind>(context: &Context, object: &K, error: &Error) {
    if context.failures(&key(object)) + 1 == TOLD_AFTER {
        let note = format!("it is not gone on with: {error}; it is tried again and again");
        context.event(object, true, "PassFailed", &note).await;
    }
}

/// One pass, as long as it may take. Passes of clusters are what the process's health goes by.
async fn bounded<K: Kind>(
    object: &K,
    context: &Context,
    pass: impl Future<Output = Result<Action, Error>>,
) -> Result<Action, Error> {
    let of_cluster = K::kind(&()) == EngramCluster::kind(&());
    if !of_cluster {
        return within(PASS_LIMIT, pass).await;
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let key = calm::key(&namespace, &name);
    context.pulse.began(&key);
    let result = within(CLUSTER_PASS_LIMIT, pass).await;
    if context.pulse.ended(&key) {
        let labels = [namespace.as_str(), name.as_str()];
        let now = super::now().as_duration().as_secs_f64();
        context
            .metrics
            .last_pass
            .with_label_values(&labels)
            .set(now);
    }
    result
}

async fn within(
    limit: Duration,
    pass: impl Future<Output = Result<Action, Error>>,
) -> Result<Action, Error> {
    let result = tokio::time::timeout(limit, pass).await;
    result.unwrap_or(Err(Error::Late(limit)))
}

fn form<K: Kind>(object: &K) -> Form {
    let meta = object.meta();
    (meta.generation, meta.deletion_timestamp.is_some())
}

fn key<K: Kind>(object: &K) -> String {
    format!(
        "{}/{}/{}",
        K::kind(&()),
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_whose_passes_fail_says_so_once() {
        let server = crate::played::Played::default();
        let context = server.context();
        let restore: EngramRestore = serde_json::from_value(serde_json::json!({
            "apiVersion": "engram.dev/v1alpha1", "kind": "EngramRestore",
            "metadata": { "name": "back", "namespace": "data", "uid": "u" },
            "spec": { "kind": "QuorumRecovery", "target": { "name": "demo" } },
        }))
        .unwrap();
        let error = Error::NotNow("a webhook refuses it".into());
        for _ in 0..9 {
            tell(&context, &restore, &error).await;
            context.failed(&key(&restore), form(&restore));
        }
        let notes = server.notes("PassFailed");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("a webhook refuses it"), "{notes:?}");
    }

    #[tokio::test]
    async fn a_pass_that_does_not_end_is_ended() {
        let never = std::future::pending::<Result<Action, Error>>();
        let result = within(Duration::from_millis(20), never).await;
        assert!(matches!(result, Err(Error::Late(_))));
    }
}
