//! All that a bug report needs, in one archive: objects, events and logs. No Secret is among them.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};

use engram_operator::api::{
    EngramBackup, EngramBackupSchedule, EngramBackupStore, EngramCluster, EngramImageCatalog,
    EngramMember, EngramOperation, EngramRestore, EngramRole, EngramUser,
};

use super::archive::Archive;
use super::{Failure, Kube};

/// How much of each log.
const LINES: i64 = 5000;

/// Writes it.
pub(super) async fn report(
    kube: &Kube,
    cluster: &str,
    out: Option<PathBuf>,
) -> Result<String, Failure> {
    let found = kube.api::<EngramCluster>().get(cluster).await?;
    let below = format!("engram-report-{cluster}");
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{below}.tar")));
    let now = jiff::Timestamp::now().as_second();
    let mut archive = Archive::make(out, &below, now)?;
    archive.add("cluster.yaml", &serde_yaml_ng::to_string(&found)?)?;
    let status = Box::pin(super::status(kube, Some(cluster))).await?;
    archive.add("status.txt", &status)?;
    let all = ListParams::default();
    let labelled = ListParams::default().labels(&format!("engram.dev/cluster={cluster}"));
    list::<EngramMember>(kube, &mut archive, "members", &all).await?;
    list::<EngramBackupStore>(kube, &mut archive, "stores", &all).await?;
    list::<EngramBackup>(kube, &mut archive, "backups", &all).await?;
    list::<EngramBackupSchedule>(kube, &mut archive, "schedules", &all).await?;
    list::<EngramRestore>(kube, &mut archive, "restores", &all).await?;
    list::<EngramOperation>(kube, &mut archive, "operations", &all).await?;
    list::<EngramUser>(kube, &mut archive, "users", &all).await?;
    list::<EngramRole>(kube, &mut archive, "roles", &all).await?;
    list::<EngramImageCatalog>(kube, &mut archive, "catalogs", &all).await?;
    list::<PersistentVolumeClaim>(kube, &mut archive, "claims", &labelled).await?;
    list::<PodDisruptionBudget>(kube, &mut archive, "budgets", &labelled).await?;
    list::<Event>(kube, &mut archive, "events", &all).await?;
    let pods = list::<Pod>(kube, &mut archive, "pods", &labelled).await?;
    for pod in &pods {
        logs(kube, &mut archive, &pod.name_any()).await?;
    }
    Ok(format!(
        "{} has all of it: look through it before you hand it on\n",
        archive.end()?.display()
    ))
}

/// Writes objects of a kind; what may not be read is said in its place.
async fn list<K>(
    kube: &Kube,
    archive: &mut Archive,
    name: &str,
    by: &ListParams,
) -> Result<Vec<K>, Failure>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let (text, items) = match kube.api::<K>().list(by).await {
        Ok(found) => (serde_yaml_ng::to_string(&found.items)?, found.items),
        Err(error) => (format!("# {error}\n"), Vec::new()),
    };
    archive.add(&format!("{name}.yaml"), &text)?;
    Ok(items)
}

/// What a pod has said, and what it said before it was last restarted.
async fn logs(kube: &Kube, archive: &mut Archive, pod: &str) -> Result<(), Failure> {
    for (previous, suffix) in [(false, ""), (true, "-previous")] {
        let params = LogParams {
            previous,
            tail_lines: Some(LINES),
            timestamps: true,
            ..LogParams::default()
        };
        if let Ok(text) = kube.api::<Pod>().logs(pod, &params).await {
            archive.add(&format!("{pod}{suffix}.log"), &text)?;
        }
    }
    Ok(())
}
