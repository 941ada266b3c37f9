//! Members that a restore has set aside: two sets of members never run beside each other.

use super::mutant::{Mutant, planted};
use super::view::{Aside, Observed};
use super::{Action, Cause, Plan, lost};
use crate::api::Reason;

/// As long as one of them has a pod, nothing is done but to stop it.
pub(super) fn stop(observed: &Observed) -> Option<Plan> {
    let up = observed.aside.iter().filter(|one| one.has_pod);
    let names: Vec<&str> = up.clone().map(|one| one.name.as_str()).collect();
    if names.is_empty() || planted(Mutant::AsideRuns) {
        return None;
    }
    let stops = up.filter(|one| !one.ending).map(|one| Action::StopPod {
        member: one.name.clone(),
    });
    let plan = Plan {
        actions: stops.collect(),
        ..Plan::default()
    };
    let held = observed
        .aside
        .iter()
        .filter(|one| one.ending && one.node_lost);
    let held: Vec<&str> = held.map(|one| one.name.as_str()).collect();
    let advice = match held.is_empty() {
        true => String::new(),
        false => format!("; {}", lost::cannot_end(&held.join(", "))),
    };
    let message = format!(
        "{} stops, and its volume is kept: members that a restore has set aside do not run beside the others{advice}",
        names.join(", ")
    );
    Some(plan.waiting(Reason::Restoring, message))
}

/// Puts one of them away, where they go; nobody is disturbed by that, and nothing waits for it.
pub(super) fn put_away(observed: &Observed, mut plan: Plan) -> Plan {
    let undecided = planted(Mutant::AsideGoesUndecided).then_some(Cause::Discarded);
    let cause = observed.aside_goes.filter(|_| !planted(Mutant::AsideStays));
    let Some(cause) = cause.or(undecided) else {
        return plan;
    };
    let action = |one: &Aside| step(one, cause);
    plan.actions.extend(observed.aside.iter().map(action));
    match observed.aside.is_empty() || plan.progress.is_some() {
        true => plan,
        false => plan.waiting(Reason::Restoring, "what the restore has set aside goes"),
    }
}

fn step(one: &Aside, cause: Cause) -> Action {
    let member = one.name.clone();
    match one.deleting {
        true => Action::FinishRemoval { member },
        false => Action::DeleteMember { member, cause },
    }
}
