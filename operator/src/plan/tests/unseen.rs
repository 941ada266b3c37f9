//! What is not as it looks: members that work and do not answer here, lists that name too few, learners in
//! the way of voters, first members that served before anybody looked.

use super::simulation::World;
use crate::api::Reason;
use crate::plan::{Action, Cause, Lack, Member, Node, Plan, PodState, Volume, plan};

fn planned(world: &World) -> Plan {
    plan(&world.view(), &world.wanted)
}

fn restarts(planned: &Plan) -> Vec<&str> {
    let restarted = planned.actions.iter().filter_map(|action| match action {
        Action::RestartPod { member } => Some(member.as_str()),
        _ => None,
    });
    restarted.collect()
}

/// It runs what was wanted before, and the operator hears nothing of it since the beginning.
fn unheard(member: &mut Member) {
    member.healthy = false;
    (member.away_since, member.runs_since) = (Some(0), Some(0));
    let pod = member.pod.as_mut().unwrap();
    pod.state = PodState::Running { ready_since: None };
    pod.outdated = true;
}

fn unplace(member: &mut Member, lack: Lack) {
    member.healthy = false;
    member.away_since = Some(0);
    member.pod.as_mut().unwrap().state = PodState::Unplaced { since: 0, lack };
}

#[test]
fn one_that_the_list_owes_its_quorum_to_is_not_restarted() {
    let mut world = World::of(3, 3);
    unheard(world.member("demo-1").unwrap());
    world.member("demo-3").unwrap().healthy = false;
    // Two have to be there for a list, and only demo-2 answers here.
    let mut view = world.view();
    view.roster.clone_from(&world.observed.roster);
    assert_eq!(restarts(&plan(&view, &world.wanted)), [""; 0]);
    world.member("demo-3").unwrap().healthy = true;
    assert_eq!(restarts(&planned(&world)), ["demo-1"]);
}

#[test]
fn without_a_quorum_nobody_who_runs_is_restarted_as_others_come_up() {
    let mut world = World::of(3, 3);
    unheard(world.member("demo-1").unwrap());
    let now = world.observed.now;
    for (other, restarted) in [
        (PodState::Starting { since: now }, false),
        (PodState::Running { ready_since: None }, false),
        (PodState::Starting { since: 0 }, true),
    ] {
        let member = world.member("demo-2").unwrap();
        (member.healthy, member.away_since) = (false, Some(0));
        member.runs_since = matches!(other, PodState::Running { .. }).then_some(now);
        member.pod.as_mut().unwrap().state = other;
        unplace(world.member("demo-3").unwrap(), Lack::Other);
        assert!(!world.has_quorum());
        let planned = planned(&world);
        assert_eq!(!restarts(&planned).is_empty(), restarted, "{planned:?}");
    }
}

#[test]
fn without_a_quorum_a_learner_leaves_the_node_of_a_voter() {
    for lack in [Lack::Volume, Lack::Distance] {
        let mut world = World::of(3, 2);
        world.observed.roster.as_mut().unwrap().entries[2].learner = true;
        unplace(world.member("demo-1").unwrap(), lack);
        let stop = Action::StopPod {
            member: "demo-3".into(),
        };
        assert_eq!(planned(&world).actions, [stop]);
        // It is not started before the voter has found its node.
        world.lose_pod("demo-3");
        assert_eq!(planned(&world).actions, []);
        world.member("demo-1").unwrap().pod.as_mut().unwrap().state =
            PodState::Starting { since: 0 };
        let start = Action::StartPod {
            member: "demo-3".into(),
        };
        assert_eq!(planned(&world).actions, [start]);
    }
    // Voters keep theirs, and so does everybody where the node lacks memory.
    let mut world = World::of(3, 2);
    unplace(world.member("demo-1").unwrap(), Lack::Volume);
    world.member("demo-2").unwrap().healthy = false;
    assert_eq!(planned(&world).actions, []);
    world.observed.roster.as_mut().unwrap().entries[2].learner = true;
    unplace(world.member("demo-1").unwrap(), Lack::Other);
    assert_eq!(planned(&world).actions, []);
}

#[test]
fn a_list_grows_no_shorter_than_what_it_does_not_name() {
    let mut world = World::of(5, 3);
    world.wanted.replacements_per_hour = 0;
    let roster = world.observed.roster.as_mut().unwrap();
    roster.entries.retain(|entry| entry.id <= 3);
    for name in ["demo-4", "demo-5"] {
        world.member(name).unwrap().healthy = false;
    }
    world.lose_volume("demo-3");
    world.member("demo-3").unwrap().deleting = true;
    world.wanted.replicas = 5;
    let blocked = planned(&world).blocked.expect("it is said");
    assert_eq!(blocked.reason, Reason::WouldLoseQuorum);
    assert!(blocked.message.contains("demo-4, demo-5"), "{blocked:?}");
    // Once they are put away it goes.
    world.wanted.replacements_per_hour = 6;
    world.settle();
    assert_eq!(world.voters(), 5);
}

#[test]
fn whoever_is_in_no_list_and_has_no_volume_goes_first_of_all() {
    let mut world = World::of(3, 1);
    let roster = world.observed.roster.as_mut().unwrap();
    roster.entries.retain(|entry| entry.id == 1);
    // The volume of the only voter is going, and the others' are gone.
    world.member("demo-1").unwrap().volume = Volume::Terminating;
    world.lose_volume("demo-2");
    world.lose_volume("demo-3");
    let delete = Action::DeleteMember {
        member: "demo-2".into(),
        cause: Cause::RemovedElsewhere,
    };
    assert_eq!(planned(&world).actions, [delete]);
}

#[test]
fn a_surplus_one_that_does_not_work_goes_though_another_one_waits_to_go() {
    let mut world = World::of(3, 1);
    world.member("demo-1").unwrap().deleting = true;
    world.observed.roster.as_mut().unwrap().leader = Some(2);
    unplace(world.member("demo-3").unwrap(), Lack::Other);
    let delete = Action::DeleteMember {
        member: "demo-3".into(),
        cause: Cause::ScaleDown,
    };
    assert_eq!(planned(&world).actions, [delete]);
    // One that works waits.
    world.member("demo-3").unwrap().healthy = true;
    world.wanted.replicas = 2;
    let planned = planned(&world).actions;
    assert!(
        !planned
            .iter()
            .any(|action| matches!(action, Action::DeleteMember { .. }))
    );
}

#[test]
fn that_a_change_failed_is_said_before_what_else_stands_in_the_way() {
    let mut world = World::of(3, 3);
    world.change_template(true);
    let member = world.member("demo-3").unwrap();
    (member.healthy, member.away_since) = (false, Some(0));
    let pod = member.pod.as_mut().unwrap();
    pod.outdated = false;
    pod.state = PodState::Broken {
        since: 0,
        starved: false,
    };
    world.lose_volume("demo-2");
    let mut view = world.view();
    view.roster.clone_from(&world.observed.roster);
    let blocked = plan(&view, &world.wanted).blocked.expect("it is said");
    assert_eq!(blocked.reason, Reason::RolloutFailed);
    assert!(
        blocked.message.contains("demo-2 is lost (VolumeLost)"),
        "{blocked:?}"
    );
}

#[test]
fn a_first_member_that_may_have_served_keeps_its_volume() {
    let mut world = World::of(0, 3);
    world.tick();
    let seed = world.member("demo-1").unwrap();
    seed.volume = Volume::Present;
    seed.node = Node::Ready;
    seed.pod = Some(crate::plan::Pod {
        state: PodState::Starting { since: 0 },
        outdated: false,
        spent: false,
    });
    let delete = Action::DeleteMember {
        member: "demo-1".into(),
        cause: Cause::Stuck,
    };
    assert_eq!(planned(&world).actions, std::slice::from_ref(&delete));
    world.member("demo-1").unwrap().ran = true;
    let kept = planned(&world);
    assert_eq!(kept.actions, []);
    assert!(kept.blocked.unwrap().message.contains("may have served"));
    // With its volume gone there is nothing to keep.
    world.member("demo-1").unwrap().volume = Volume::None;
    assert_eq!(planned(&world).actions, [delete]);
}
