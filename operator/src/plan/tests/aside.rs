//! What a restore has set aside: two sets of members never run beside each other, and what is in force is
//! planned as if there were no other.

use proptest::prelude::*;

use super::simulation::World;
use crate::plan::{Action, Aside, Cause, Observed, plan};

fn aside(name: usize, has_pod: bool, ending: bool, deleting: bool) -> Aside {
    Aside {
        name: format!("demo-{name}"),
        has_pod,
        ending: has_pod && ending,
        deleting,
        ..Aside::default()
    }
}

fn any_aside() -> impl Strategy<Value = Vec<Aside>> {
    let one = (101..108_usize, any::<bool>(), any::<bool>(), any::<bool>());
    let one = one.prop_map(|(name, pod, ending, deleting)| aside(name, pod, ending, deleting));
    prop::collection::vec(one, 0..6)
}

fn cause() -> impl Strategy<Value = Option<Cause>> {
    prop::sample::select(vec![None, Some(Cause::Discarded), Some(Cause::LetGo)])
}

/// The steps that are about members in force.
fn in_force(actions: &[Action], observed: &Observed) -> Vec<Action> {
    let of_aside = |action: &&Action| match action {
        Action::StopPod { member }
        | Action::DeleteMember { member, .. }
        | Action::FinishRemoval { member } => observed.aside.iter().any(|one| one.name == *member),
        _ => false,
    };
    let others = actions.iter().filter(|action| !of_aside(action));
    others.cloned().collect()
}

proptest! {
    #[test]
    fn two_sets_of_members_never_run_beside_each_other(
        members in prop::sample::select(vec![0_u32, 1, 3, 5]),
        ticks in 0..12_usize,
        aside in any_aside(),
        goes in cause(),
    ) {
        let mut world = World::of(members, 3);
        for _ in 0..ticks {
            world.tick();
        }
        let alone = plan(&world.observed, &world.wanted);
        let observed = Observed { aside, aside_goes: goes, ..world.observed.clone() };
        let planned = plan(&observed, &world.wanted);
        let others = in_force(&planned.actions, &observed);
        if observed.aside.iter().any(|one| one.has_pod) {
            // Nobody is started, made, joined or healed before they are down; those that end are let end.
            prop_assert_eq!(others, vec![]);
            let stops = observed.aside.iter().filter(|one| one.has_pod && !one.ending);
            prop_assert_eq!(planned.actions.len(), stops.count());
        } else {
            prop_assert_eq!(others, alone.actions.clone());
            let gone = planned.actions.len() - alone.actions.len();
            prop_assert_eq!(gone, goes.map_or(0, |_| observed.aside.len()));
        }
    }
}

#[test]
fn what_is_kept_stays_and_what_was_decided_goes() {
    let world = World::of(3, 3);
    let kept = Observed {
        aside: vec![aside(9, false, false, false)],
        ..world.observed.clone()
    };
    assert_eq!(
        plan(&kept, &world.wanted),
        plan(&world.observed, &world.wanted)
    );
    let goes = |deleting| {
        let observed = Observed {
            aside: vec![aside(9, false, false, deleting)],
            aside_goes: Some(Cause::Discarded),
            ..world.observed.clone()
        };
        plan(&observed, &world.wanted).actions
    };
    let member = "demo-9".to_owned();
    let cause = Cause::Discarded;
    assert_eq!(
        goes(false),
        [Action::DeleteMember {
            member: member.clone(),
            cause
        }]
    );
    assert_eq!(goes(true), [Action::FinishRemoval { member }]);
}

#[test]
fn a_paused_cluster_is_left_as_it_is() {
    let mut world = World::of(3, 3);
    world.wanted.paused = true;
    world.observed.aside = vec![aside(9, true, false, false)];
    assert_eq!(plan(&world.observed, &world.wanted).actions, []);
}

#[test]
fn nobody_runs_while_volumes_are_looked_at_and_who_cannot_end_is_told_of() {
    let mut world = World::of(3, 3);
    for _ in 0..12 {
        world.tick();
    }
    let ends = |node_lost| Aside {
        node_lost,
        ..aside(101, true, true, false)
    };
    let mut observed = Observed {
        members: Vec::new(),
        roster: None,
        held: true,
        aside: vec![ends(false), ends(true)],
        ..world.observed.clone()
    };
    let planned = plan(&observed, &world.wanted);
    assert_eq!(planned.actions, []);
    let message = planned.progress.expect("it waits").message;
    assert!(message.contains("out-of-service"), "{message}");
    for one in &mut observed.aside {
        (one.has_pod, one.ending) = (false, false);
    }
    let planned = plan(&observed, &world.wanted);
    assert_eq!((planned.actions.len(), planned.blocked), (0, None));
    let message = planned.progress.expect("it waits").message;
    assert!(message.contains("nobody runs"), "{message}");
}
