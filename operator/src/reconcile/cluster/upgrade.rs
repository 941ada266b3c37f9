//! What members run, and when a new operator's changes reach them. An upgrade of the operator changes the
//! image of clusters that name none, and what it builds pods from: neither reaches a cluster before its
//! turn, and an older image never does by itself.

use kube::ResourceExt as _;

use crate::api::{
    ConditionKind, EngramCluster, EngramClusterStatus, TemplateStatus, UpdateStrategy, is_true,
};
use crate::desired;
use crate::observe::Form;

use super::super::Context;

/// What a cluster's pods are made from now.
pub(super) struct Chosen {
    /// The image.
    pub image: String,
    /// Templates that count as up to date.
    pub templates: Vec<String>,
    /// What a person may want to know: what members run, and what they do not run yet.
    pub runs: String,
}

impl Chosen {
    pub(super) fn form(&self, fill: Option<String>) -> Form {
        Form {
            templates: self.templates.clone(),
            fill,
        }
    }
}

/// What becomes of the operator's own image.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is what members run.
    Same,
    /// It comes in its turn.
    Forward,
    /// It does not come by itself.
    Refused(&'static str),
}

/// The version of an image, by its tag.
fn version(image: &str) -> Option<[u64; 3]> {
    let image = image.split('@').next()?;
    let (_, tag) = image.rsplit_once(':')?;
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    numbers(tag)
}

/// A version's three numbers.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let core = version.split(['-', '+']).next()?;
    let parts: Result<Vec<u64>, _> = core.split('.').map(str::parse).collect();
    parts.ok()?.try_into().ok()
}

/// Whether members can be taken from one version to another.
///
/// # Errors
/// Why not, and what can be done.
pub(super) fn path(before: &str, after: &str) -> Result<(), &'static str> {
    match (numbers(before), numbers(after)) {
        (Some(before), Some(after)) => leads(before, after),
        // Nobody can say.
        _ => Ok(()),
    }
}

fn leads(before: [u64; 3], after: [u64; 3]) -> Result<(), &'static str> {
    if after < before {
        return Err("it is older: set spec.image to go back");
    }
    if after[0] != before[0] || after[1] > before[1] + 1 {
        return Err("that skips a version: go by the versions between, one by one");
    }
    Ok(())
}

/// From `runs` to `offered`. Images without versions are the user's to know.
fn step(runs: &str, offered: &str) -> Next {
    if runs == offered {
        return Next::Same;
    }
    let (Some(before), Some(after)) = (version(runs), version(offered)) else {
        return Next::Forward;
    };
    leads(before, after).map_or_else(Next::Refused, |()| Next::Forward)
}

/// Decides, and keeps it in the status.
pub(super) fn choose(
    context: &Context,
    cluster: &EngramCluster,
    status: &mut EngramClusterStatus,
) -> Chosen {
    let offered = &context.settings.image;
    let named = cluster.spec.image.as_ref();
    let runs = named.or(status.image.as_ref()).unwrap_or(offered).clone();
    let rendered = desired::template_hash(cluster, &runs);
    let operator = format!("{} {offered}", env!("CARGO_PKG_VERSION"));
    let mut template = known(status.template.clone(), &rendered, &operator);
    let next = match named {
        Some(_) => Next::Same,
        None => step(&runs, offered),
    };
    let mut image = runs;
    let mut waits = None;
    let pending = template.hash != template.rendered || next == Next::Forward;
    if pending {
        match may_begin(context, cluster) {
            true => {
                if next == Next::Forward {
                    image.clone_from(offered);
                }
                let rendered = desired::template_hash(cluster, &image);
                template.hash.clone_from(&rendered);
                template.rendered = rendered;
            }
            false => {
                waits = Some("; what the operator's upgrade brings waits for its turn".to_owned())
            }
        }
    }
    if let Next::Refused(why) = next {
        waits = Some(format!("; the operator's {offered} is not taken: {why}"));
    }
    let templates = vec![template.hash.clone(), template.rendered.clone()];
    let runs = format!("members run {image}{}", waits.unwrap_or_default());
    status.image = Some(image.clone());
    status.template = Some(template);
    Chosen {
        image,
        templates,
        runs,
    }
}

/// What is known of the template. What a user changes counts at once; what is built otherwise by another
/// operator does not.
fn known(before: Option<TemplateStatus>, rendered: &str, operator: &str) -> TemplateStatus {
    let all = |hash: &str| TemplateStatus {
        hash: hash.to_owned(),
        rendered: rendered.to_owned(),
        operator: operator.to_owned(),
    };
    match before {
        Some(before) if before.operator != operator => all(&before.hash),
        Some(before) if before.rendered == rendered => before,
        _ => all(rendered),
    }
}

/// Whether a cluster may begin to take up what the operator's upgrade brings.
fn may_begin(context: &Context, cluster: &EngramCluster) -> bool {
    let founded = cluster
        .status
        .as_ref()
        .is_some_and(|status| status.cluster_id.is_some());
    let rests = cluster.spec.replicas == 0 || !founded;
    // Nobody is restarted by that.
    if rests || cluster.spec.update.strategy == UpdateStrategy::OnDelete {
        return true;
    }
    if cluster.spec.paused {
        return false;
    }
    let ready = |status: &EngramClusterStatus| is_true(&status.conditions, ConditionKind::Ready);
    let uid = cluster.uid().unwrap_or_default();
    cluster.status.as_ref().is_some_and(ready) && context.turns.take(&uid)
}

/// Keeps or gives back the cluster's turn, by whether members are still to be restarted.
pub(super) fn settle(context: &Context, cluster: &EngramCluster, rolls: bool) {
    let uid = cluster.uid().unwrap_or_default();
    let counts = cluster.spec.replicas > 0
        && !cluster.spec.paused
        && cluster.spec.update.strategy == UpdateStrategy::Rolling;
    match rolls && counts {
        true => context.turns.hold(&uid),
        false => context.turns.give_back(&uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_go_forward_by_one_step_and_never_back() {
        let of = |tag: &str| format!("ghcr.io/engram-dev/engram:{tag}");
        let go = |before: &str, after: &str| step(&of(before), &of(after));
        assert_eq!(go("1.2.3", "1.2.3"), Next::Same);
        assert_eq!(go("1.2.3", "1.2.4"), Next::Forward);
        assert_eq!(go("1.2.3", "v1.3.0-rc.1"), Next::Forward);
        assert!(matches!(go("1.2.3", "1.2.2"), Next::Refused(_)));
        assert!(matches!(go("1.2.3", "1.4.0"), Next::Refused(_)));
        assert!(matches!(go("1.2.3", "2.0.0"), Next::Refused(_)));
        // Nobody can say.
        assert_eq!(go("nightly", "1.0.0"), Next::Forward);
        assert_eq!(step("a/b@sha256:00", "a/b:1.0.0"), Next::Forward);
    }

    #[test]
    fn what_another_operator_builds_waits_and_what_a_user_changes_does_not() {
        let first = known(None, "a", "1 i");
        assert_eq!((first.hash.as_str(), first.rendered.as_str()), ("a", "a"));
        // A user's change.
        let changed = known(Some(first.clone()), "b", "1 i");
        assert_eq!(
            (changed.hash.as_str(), changed.rendered.as_str()),
            ("b", "b")
        );
        // Another operator.
        let upgraded = known(Some(first), "c", "2 i");
        assert_eq!(
            (upgraded.hash.as_str(), upgraded.rendered.as_str()),
            ("a", "c")
        );
        let again = known(Some(upgraded.clone()), "c", "2 i");
        assert_eq!(again, upgraded);
        // A user's change while it waits.
        let changed = known(Some(upgraded), "d", "2 i");
        assert_eq!(
            (changed.hash.as_str(), changed.rendered.as_str()),
            ("d", "d")
        );
    }
}
