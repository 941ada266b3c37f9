//! All that a bug report needs, as files in a directory: objects, events and logs. No Secret is among them.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};

use engram_operator::api::{
    EngramBackup, EngramBackupSchedule, EngramBackupStore, EngramCluster, EngramMember,
    EngramOperation, EngramRestore, EngramRole, EngramUser,
};

use super::{Failure, Kube};

/// How much of each log.
const LINES: i64 = 5000;

struct Directory(PathBuf);

impl Directory {
    fn make(path: PathBuf) -> Result<Self, Failure> {
        match std::fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(Failure::File(path, error)),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = Path::new(&self.0).join(name);
        std::fs::write(&path, text).map_err(|error| Failure::File(path, error))
    }
}

/// Writes it.
pub(super) async fn report(
    kube: &Kube,
    cluster: &str,
    out: Option<PathBuf>,
) -> Result<String, Failure> {
    let found = kube.api::<EngramCluster>().get(cluster).await?;
    let out = out.unwrap_or_else(|| PathBuf::from(format!("engram-report-{cluster}")));
    let directory = Directory::make(out)?;
    directory.write("cluster.yaml", &serde_yaml_ng::to_string(&found)?)?;
    let status = Box::pin(super::status(kube, Some(cluster))).await?;
    directory.write("status.txt", &status)?;
    let all = ListParams::default();
    let labelled = ListParams::default().labels(&format!("engram.dev/cluster={cluster}"));
    list::<EngramMember>(kube, &directory, "members", &all).await?;
    list::<EngramBackupStore>(kube, &directory, "stores", &all).await?;
    list::<EngramBackup>(kube, &directory, "backups", &all).await?;
    list::<EngramBackupSchedule>(kube, &directory, "schedules", &all).await?;
    list::<EngramRestore>(kube, &directory, "restores", &all).await?;
    list::<EngramOperation>(kube, &directory, "operations", &all).await?;
    list::<EngramUser>(kube, &directory, "users", &all).await?;
    list::<EngramRole>(kube, &directory, "roles", &all).await?;
    list::<PersistentVolumeClaim>(kube, &directory, "claims", &labelled).await?;
    list::<PodDisruptionBudget>(kube, &directory, "budgets", &labelled).await?;
    list::<Event>(kube, &directory, "events", &all).await?;
    let pods = list::<Pod>(kube, &directory, "pods", &labelled).await?;
    for pod in &pods {
        logs(kube, &directory, &pod.name_any()).await?;
    }
    Ok(format!(
        "{} has all of it: look through it before you hand it on\n",
        directory.0.display()
    ))
}

/// Writes objects of a kind; what may not be read is said in its place.
async fn list<K>(
    kube: &Kube,
    directory: &Directory,
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
    directory.write(&format!("{name}.yaml"), &text)?;
    Ok(items)
}

/// What a pod has said, and what it said before it was last restarted.
async fn logs(kube: &Kube, directory: &Directory, pod: &str) -> Result<(), Failure> {
    for (previous, suffix) in [(false, ""), (true, "-previous")] {
        let params = LogParams {
            previous,
            tail_lines: Some(LINES),
            timestamps: true,
            ..LogParams::default()
        };
        if let Ok(text) = kube.api::<Pod>().logs(pod, &params).await {
            directory.write(&format!("{pod}{suffix}.log"), &text)?;
        }
    }
    Ok(())
}
