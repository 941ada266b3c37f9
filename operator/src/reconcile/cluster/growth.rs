//! Volumes that Kubernetes did not let grow: they are asked for again after a minute, and until then what it said
//! stands, and keeps no pass busy.

use kube::ResourceExt as _;

use crate::api::{EngramCluster, Reason};
use crate::desired;
use crate::observe::Sight;
use crate::plan::{Action, Plan};

use super::super::{Context, Error};

/// Takes out of a plan what was refused a moment ago; what to say of that.
pub(super) fn put_off(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    planned: &mut Plan,
) -> Option<Error> {
    let mut first = None;
    planned.actions.retain(|action| {
        let said = asked(cluster, sight, action).and_then(|asked| context.grows_not(&asked));
        let stays = said.is_none();
        first = first.take().or(said);
        stays
    });
    first.map(|said| Error::input(Reason::InvalidSpec, said))
}

/// Notes that it was refused.
pub(super) fn refused(
    context: &Context,
    cluster: &EngramCluster,
    sight: &Sight,
    action: &Action,
    error: &Error,
) {
    if let Some(asked) = asked(cluster, sight, action) {
        context.did_not_grow(asked, error.to_string());
    }
}

/// A volume that is asked to grow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::reconcile) struct Asked {
    /// The cluster's UID.
    pub cluster: String,
    /// The claim's.
    pub claim: String,
    /// To what size.
    pub size: String,
}

fn asked(cluster: &EngramCluster, sight: &Sight, action: &Action) -> Option<Asked> {
    let Action::ExpandVolume { member } = action else {
        return None;
    };
    let mut members = sight.objects.members.iter();
    let member = members.find(|one| one.name_any() == *member)?;
    let claim = sight.objects.claims.get(&desired::claim_name(member))?;
    Some(Asked {
        cluster: cluster.uid()?,
        claim: claim.uid()?,
        size: cluster.spec.storage.size.clone(),
    })
}
