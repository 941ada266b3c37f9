//! Up to when a backup can be restored: the log archive that follows it is told of in its status, as it was last read
//! back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde::Deserialize;

use crate::api::{EngramBackup, EngramBackupStatus};

use super::super::{Context, Version, write_status};
use super::success;

/// A chain of segments, as `engramctl archive verify` says it; only what is read here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Chain {
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    pub incarnation: String,
    pub from_revision: i64,
    pub to_revision: i64,
    pub to_time: Option<Time>,
    pub segments: u64,
}

impl Chain {
    /// Whether it goes on where a backup ends.
    fn follows(&self, status: &EngramBackupStatus) -> bool {
        status.cluster_id.as_ref() == Some(&self.cluster_id)
            && status.incarnation.as_ref() == Some(&self.incarnation)
            && status
                .revision
                .is_some_and(|revision| (self.from_revision..=self.to_revision).contains(&revision))
    }
}

/// What a backup's status says with these chains behind it; none where that is what it says.
fn told(backup: &EngramBackup, chains: &[Chain]) -> Option<EngramBackupStatus> {
    success(backup)?;
    let status = backup.status.as_ref()?;
    let chains = chains.iter().filter(|chain| chain.follows(status));
    let furthest = chains.max_by_key(|chain| chain.to_revision)?;
    let to = EngramBackupStatus {
        restorable_to_revision: Some(furthest.to_revision),
        restorable_to: furthest.to_time.clone(),
        ..status.clone()
    };
    (to != *status).then_some(to)
}

/// Tells it of each backup that a chain follows. What cannot be written is written after the next reading.
pub(super) async fn tell(context: &Context, made: &[EngramBackup], chains: &[Chain]) {
    for backup in made {
        let Some(status) = told(backup, chains) else {
            continue;
        };
        let written = write_status(context, backup, &Version::of(backup), &status).await;
        if let Err(error) = written {
            tracing::warn!(
                backup = backup.name_any(),
                %error,
                "up to when it can be restored is not told"
            );
        }
    }
}
