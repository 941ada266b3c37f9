//! A cluster that is being restored in place, as its status has it: the one place that says which of its
//! members are in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::Recovery;
use super::cluster_status::RestoredFrom;

/// A restore in place that is under way, or waits for what is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restoring {
    /// The EngramRestore's name.
    pub restore: String,
    /// Its UID.
    #[serde(rename = "restoreUID")]
    pub restore_uid: String,
    /// What becomes of the members that are set aside.
    pub stage: RestoringStage,
    /// Which members are set aside: they do not run.
    pub aside: Aside,
    /// The highest number of a member before the restore: those up to it are the old ones.
    pub last_old_member: u32,
    /// What the first of the new members begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// The old member that goes on alone, with its volume, where no backup is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survivor: Option<String>,
    /// The old members' volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptVolume>,
    /// The ID of the cluster that the old members are.
    #[serde(rename = "oldClusterID")]
    pub old_cluster_id: String,
    /// What that one had begun with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_restored: Option<RestoredFrom>,
    /// The recovery that did not serve, where this one is to take its place and nobody goes on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// A recovery that another one is to take the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// Its EngramRestore's name.
    pub restore: String,
    /// Its UID.
    #[serde(rename = "restoreUID")]
    pub restore_uid: String,
    /// The member that went on alone.
    pub survivor: String,
    /// The highest number of a member before it.
    pub last_old_member: u32,
}

impl Restoring {
    /// Whether nobody goes on yet: all members are stopped, and their volumes looked at.
    #[must_use]
    pub fn holds(&self) -> bool {
        let kept = (self.stage, self.aside) == (RestoringStage::Kept, Aside::Old);
        kept && self.survivor.is_none() && self.recovery.is_none()
    }

    /// What is in force again where what is held is let go of: what was before it.
    #[must_use]
    pub fn released(&self) -> Option<Self> {
        let before = self.before.clone()?;
        let mut released = Self {
            restore: before.restore,
            restore_uid: before.restore_uid,
            last_old_member: before.last_old_member,
            survivor: Some(before.survivor),
            kept: Vec::new(),
            before: None,
            ..self.clone()
        };
        let stays = |one: &&KeptVolume| {
            let number = one.number();
            number.is_some_and(|number| released.sets_aside(number, &one.member))
        };
        released.kept = self.kept.iter().filter(stays).cloned().collect();
        Some(released)
    }

    /// Whether a member is set aside, by its number and name.
    #[must_use]
    pub fn sets_aside(&self, number: u32, name: &str) -> bool {
        match self.aside {
            _ if self.survivor.as_deref() == Some(name) => false,
            Aside::Old => number <= self.last_old_member,
            Aside::New => number > self.last_old_member,
        }
    }
}

/// Which members are set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Aside {
    /// Those of before.
    Old,
    /// The restored ones: it was undone.
    New,
}

/// What becomes of the members that are set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoringStage {
    /// They are kept until it is decided.
    Kept,
    /// They go, and their volumes as `storage.reclaimPolicy` says.
    Discarded,
    /// They go and leave their volumes: the EngramRestore was deleted before it was decided.
    LetGo,
}

/// A member's volume that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptVolume {
    /// The member.
    pub member: String,
    /// Its claim.
    pub volume_claim: String,
}

impl KeptVolume {
    /// Its member's number.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.member.rsplit('-').next()?.parse().ok()
    }
}
