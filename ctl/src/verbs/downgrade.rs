//! `downgrade`.

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use pb::downgrade_request::DowngradeAction;

use crate::cli::{Downgrade, Global};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::output::Answer;

/// `downgrade`.
pub async fn downgrade(global: &Global, command: Downgrade) -> Result<(), Failure> {
    let (action, version, name) = match command {
        Downgrade::Validate { target_version } => {
            (DowngradeAction::Validate, target_version, "validate")
        }
        Downgrade::Enable { target_version } => (DowngradeAction::Enable, target_version, "enable"),
        Downgrade::Cancel => (DowngradeAction::Cancel, String::new(), "cancel"),
    };
    if version.is_empty() && action != DowngradeAction::Cancel {
        return Err(Failure::arguments("target version not provided"));
    }
    let request = pb::DowngradeRequest {
        action: action.into(),
        version,
    };
    let mut client = MaintenanceClient::new(any(global).await?.channel);
    let answer = within(global, client.downgrade(request))
        .await?
        .into_inner();
    let version = &answer.version;
    Answer::new(|| format!("Downgrade {name} success, cluster version {version}\n").into())
        .message("DowngradeResponse", &answer)
        .write(global)
}
