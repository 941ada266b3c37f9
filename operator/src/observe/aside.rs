//! Which of a cluster's members a restore has set aside: they are not asked, and not in force.

use kube::{Resource as _, ResourceExt as _};

use crate::api::{EngramCluster, EngramMember, Restoring, RestoringStage};
use crate::desired::{ALONE_ANNOTATION, Names};
use crate::plan::{Aside, Cause, Node};

use super::{Objects, number, own_pod};

/// A restore in place that is under way. With the cluster all its members go.
fn restoring(cluster: &EngramCluster) -> Option<&Restoring> {
    let stays = cluster.meta().deletion_timestamp.is_none();
    cluster.restoring().filter(|_| stays)
}

/// Those that are set aside, and those that are not.
pub(super) fn split(
    cluster: &EngramCluster,
    names: &Names,
    members: &[EngramMember],
) -> (Vec<EngramMember>, Vec<EngramMember>) {
    let aside = |member: &EngramMember| {
        let (number, name) = (number(names, member), member.name_any());
        restoring(cluster).is_some_and(|one| one.sets_aside(number, &name))
    };
    members.iter().cloned().partition(aside)
}

/// As the planner sees them. The pod of a survivor that was started before it was one is among them: it
/// does not run beside the next.
pub(super) fn views(
    cluster: &EngramCluster,
    aside: &[EngramMember],
    in_force: &[EngramMember],
    objects: &Objects,
) -> Vec<Aside> {
    let pods = &objects.pods;
    let view = |member: &EngramMember| {
        let pod = own_pod(member, pods);
        Aside {
            name: member.name_any(),
            node_lost: matches!(objects.node(&member.name_any()), Node::Lost { .. }),
            has_pod: pod.is_some(),
            ending: pod.is_some_and(|pod| pod.meta().deletion_timestamp.is_some()),
            deleting: member.meta().deletion_timestamp.is_some(),
        }
    };
    let kept = restoring(cluster).filter(|one| one.stage == RestoringStage::Kept);
    let of_before = |member: &&EngramMember| {
        let survives = kept.filter(|one| one.survivor == Some(member.name_any()));
        let pod = own_pod(member, pods);
        survives.zip(pod).is_some_and(|(restoring, pod)| {
            pod.annotations().get(ALONE_ANNOTATION) != Some(&restoring.restore_uid)
        })
    };
    let before = in_force.iter().filter(of_before);
    aside.iter().chain(before).map(view).collect()
}

/// Whether nobody is to run yet.
pub(super) fn holds(cluster: &EngramCluster) -> bool {
    restoring(cluster).is_some_and(Restoring::holds)
}

/// Whether they go, and why.
pub(super) fn cause(cluster: &EngramCluster) -> Option<Cause> {
    match restoring(cluster)?.stage {
        RestoringStage::Kept => None,
        RestoringStage::Discarded => Some(Cause::Discarded),
        RestoringStage::LetGo => Some(Cause::LetGo),
    }
}
