//! The rules, one by one.

use super::simulation::{Wedge, World};
use crate::api::Reason;
use crate::plan::{Action, Cause, Lack, Node, PodState, plan};

fn all_actions(world: &mut World, ticks: usize) -> Vec<Action> {
    (0..ticks).flat_map(|_| world.tick()).collect()
}

#[test]
fn a_cluster_is_founded_by_one_and_joined_by_the_others_one_at_a_time() {
    let mut world = World::of(0, 3);
    let actions = all_actions(&mut world, 40);
    let seeds = actions
        .iter()
        .filter(|a| matches!(a, Action::CreateMember { seed: true }))
        .count();
    let joined = actions
        .iter()
        .filter(|a| matches!(a, Action::AddLearner { .. }))
        .count();
    assert_eq!((seeds, joined), (1, 2));
    assert!(world.is_settled());
}

#[test]
fn a_change_restarts_followers_first_and_moves_the_leader_once() {
    let mut world = World::of(5, 5);
    world.observed.roster.as_mut().unwrap().leader = Some(2);
    for member in &mut world.observed.members {
        member.pod.as_mut().unwrap().outdated = true;
    }
    let actions = all_actions(&mut world, 60);
    let restarted: Vec<&str> = actions
        .iter()
        .filter_map(|action| match action {
            Action::RestartPod { member } => Some(member.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        restarted,
        ["demo-1", "demo-3", "demo-4", "demo-5", "demo-2"]
    );
    assert_eq!(world.leader_moves, 1);
    assert!(world.is_settled());
}

#[test]
fn the_one_member_of_one_is_restarted_without_ado() {
    let mut world = World::of(1, 1);
    world.observed.members[0].pod.as_mut().unwrap().outdated = true;
    assert_eq!(
        world.tick(),
        [Action::RestartPod {
            member: "demo-1".into()
        }]
    );
    world.settle();
}

#[test]
fn a_member_that_works_makes_room_where_its_replacement_finds_no_other_node() {
    let mut world = World::of(3, 3);
    world.places = Some(3);
    world.observed.members[1].deleting = true;
    // The replacement comes first: it is made, and waits for a node.
    let actions = all_actions(&mut world, 6);
    assert!(actions.contains(&Action::StartPod {
        member: "demo-4".into()
    }));
    assert_eq!(world.voters(), 3);
    let waits = plan(&world.view(), &world.wanted).progress;
    assert_eq!(waits.map(|note| note.reason), Some(Reason::Unschedulable));
    world.settle();
    assert!(world.observed.member("demo-2").is_none());
    assert_eq!(world.voters(), 3);
}

#[test]
fn a_member_that_works_stays_while_its_replacement_waits_for_a_node_of_any_kind() {
    let mut world = World::of(3, 3);
    (world.places, world.lack) = (Some(3), Lack::Other);
    world.observed.members[1].deleting = true;
    all_actions(&mut world, 60);
    assert_eq!((world.voters(), world.healthy_voters()), (3, 3));
}

#[test]
fn a_pod_that_hangs_on_what_was_wanted_before_is_restarted() {
    for (members, replicas) in [(3, 3), (1, 1)] {
        let mut world = World::of(members, replicas);
        world.hang("demo-1");
        world.settle();
        assert!(
            world.observed.member("demo-1").is_some(),
            "it is not replaced"
        );
    }
}

#[test]
fn that_the_only_copy_is_gone_is_said() {
    let mut world = World::of(1, 1);
    world.lose_volume("demo-1");
    let blocked = plan(&world.view(), &world.wanted).blocked;
    assert_eq!(blocked.map(|note| note.reason), Some(Reason::DataLost));
}

#[test]
fn whoever_shares_a_node_goes_first() {
    let mut world = World::of(5, 3);
    for member in &mut world.observed.members[1..3] {
        member.shares_node = true;
    }
    let gone = |actions: &[Action]| {
        let deleted = actions.iter().find_map(|action| match action {
            Action::DeleteMember { member, .. } => Some(member.clone()),
            _ => None,
        });
        deleted.expect("a member goes")
    };
    assert_eq!(gone(&all_actions(&mut world, 1)), "demo-3");
}

#[test]
fn a_lost_volume_is_replaced_and_never_started_empty() {
    let mut world = World::of(3, 3);
    world.lose_volume("demo-1");
    let actions = all_actions(&mut world, 30);
    assert!(!actions.contains(&Action::StartPod {
        member: "demo-1".into()
    }));
    let removed = actions
        .iter()
        .position(|a| matches!(a, Action::RemoveMember { id: 1, .. }));
    let made = actions
        .iter()
        .position(|a| matches!(a, Action::CreateMember { .. }));
    assert!(removed < made, "{actions:?}");
    assert!(world.is_settled());
    assert!(world.observed.member("demo-4").is_some());
}

#[test]
fn a_lost_node_has_its_time_to_come_back() {
    let mut world = World::of(3, 3);
    world.lose_node("demo-2");
    assert!(all_actions(&mut world, 5).is_empty());
    let actions = all_actions(&mut world, 30);
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::RemoveMember { id: 2, .. }))
    );
    assert!(world.is_settled());
}

#[test]
fn without_a_quorum_nothing_is_taken_out() {
    let mut world = World::of(3, 3);
    world.lose_volume("demo-1");
    world.lose_volume("demo-2");
    let planned = plan(&world.view(), &world.wanted);
    assert_eq!(planned.actions, []);
    assert_eq!(planned.blocked.unwrap().reason, Reason::QuorumLost);
}

#[test]
fn the_last_copy_is_reported_and_not_replaced_by_an_empty_one() {
    let mut world = World::of(1, 1);
    world.lose_volume("demo-1");
    assert_eq!(all_actions(&mut world, 20), []);
    let mut world = World::of(3, 3);
    world.observed.members.clear();
    let planned = plan(&world.view(), &world.wanted);
    assert_eq!(
        (planned.actions.len(), planned.blocked.unwrap().reason),
        (0, Reason::DataLost)
    );
}

#[test]
fn the_leader_is_not_the_one_that_goes_when_there_are_too_many() {
    let mut world = World::of(5, 3);
    world.observed.roster.as_mut().unwrap().leader = Some(5);
    let actions = all_actions(&mut world, 30);
    let gone: Vec<&Action> = actions
        .iter()
        .filter(|a| matches!(a, Action::DeleteMember { .. }))
        .collect();
    assert_eq!(gone.len(), 2);
    assert!(world.observed.member("demo-5").is_some(), "{actions:?}");
    assert_eq!(world.leader_moves, 0);
}

#[test]
fn a_member_that_works_is_replaced_before_it_goes() {
    let mut world = World::of(3, 3);
    world.member("demo-1").unwrap().deleting = true;
    let actions = all_actions(&mut world, 40);
    let promoted = actions
        .iter()
        .position(|a| matches!(a, Action::Promote { .. }));
    let removed = actions
        .iter()
        .position(|a| matches!(a, Action::RemoveMember { .. }));
    assert!(promoted.is_some() && promoted < removed, "{actions:?}");
    assert_eq!(world.leader_moves, 1, "it led");
    assert!(world.is_settled());
}

#[test]
fn rest_stops_pods_and_keeps_members() {
    let mut world = World::of(3, 0);
    assert_eq!(world.tick().len(), 3);
    assert_eq!(all_actions(&mut world, 5), []);
    assert_eq!((world.observed.members.len(), world.voters()), (3, 3));
    world.wanted.replicas = 3;
    world.settle();
    assert!(world.observed.member("demo-1").is_some());
}

#[test]
fn one_without_memory_or_disk_is_not_replaced() {
    let mut world = World::of(3, 3);
    let broken = PodState::Broken {
        since: 0,
        starved: true,
    };
    let member = world.member("demo-3").unwrap();
    member.healthy = false;
    member.pod.as_mut().unwrap().state = broken;
    assert_eq!(all_actions(&mut world, 30), []);
}

#[test]
fn replacements_are_limited_and_can_be_switched_off() {
    let mut world = World::of(3, 3);
    world.lose_volume("demo-3");
    world.wanted.replacements_per_hour = 2;
    world.observed.replacements = 2;
    let planned = plan(&world.view(), &world.wanted);
    assert_eq!(planned.blocked.unwrap().reason, Reason::ReplacementLimit);
    world.wanted.healing = false;
    let planned = plan(&world.view(), &world.wanted);
    assert_eq!(planned.blocked.unwrap().reason, Reason::MemberNotReady);
    assert_eq!(planned.actions, []);
}

#[test]
fn a_pause_stops_everything_and_deletion_takes_everything() {
    let mut world = World::of(3, 5);
    world.wanted.paused = true;
    assert_eq!(world.tick(), []);
    world.observed.deleting = true;
    world.tick();
    world.tick();
    assert!(world.observed.members.is_empty());
}

#[test]
fn a_learner_that_is_not_needed_any_more_goes_first() {
    let mut world = World::of(1, 3);
    while !world
        .observed
        .roster
        .as_ref()
        .unwrap()
        .entries
        .iter()
        .any(|entry| entry.learner)
    {
        world.tick();
    }
    world.wanted.replicas = 1;
    let actions = all_actions(&mut world, 20);
    assert!(
        !actions.iter().any(|a| matches!(a, Action::Promote { .. })),
        "{actions:?}"
    );
    assert!(world.is_settled());
    assert_eq!(world.observed.members[0].node, Node::Ready);
}

fn deletes(actions: &[Action]) -> usize {
    let goes = |action: &&Action| {
        matches!(
            action,
            Action::DeleteMember { .. } | Action::RemoveMember { .. }
        )
    };
    actions.iter().filter(goes).count()
}

#[test]
fn a_change_that_does_not_start_stops_and_costs_no_volume() {
    let mut world = World::of(3, 3);
    world.change_template(true);
    // A day, and ten times the time a member may fail in every hour of it.
    let actions = all_actions(&mut world, 17_280);
    assert_eq!(deletes(&actions), 0, "{actions:?}");
    let restarts = actions
        .iter()
        .filter(|action| matches!(action, Action::RestartPod { .. }));
    assert_eq!(restarts.count(), 1, "it goes no further");
    assert_eq!(world.healthy_voters(), 2);
    let blocked = plan(&world.view(), &world.wanted).blocked;
    assert_eq!(blocked.map(|note| note.reason), Some(Reason::RolloutFailed));
    world.revert_template();
    assert_eq!(deletes(&all_actions(&mut world, 100)), 0);
    assert!(world.is_settled());
    let names: Vec<&str> = world
        .observed
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    assert_eq!(names, ["demo-1", "demo-2", "demo-3"]);
}

#[test]
fn a_member_that_fails_where_others_run_the_same_is_lost_still() {
    let mut world = World::of(3, 3);
    let member = world.member("demo-2").unwrap();
    member.healthy = false;
    member.pod.as_mut().unwrap().state = PodState::Broken {
        since: 0,
        starved: false,
    };
    world.settle();
    assert!(world.observed.member("demo-2").is_none());
}

#[test]
fn another_cluster_that_answers_is_not_acted_upon() {
    let mut world = World::of(3, 3);
    world.lose_volume("demo-3");
    let mut view = world.view();
    view.foreign = vec!["demo-2".into()];
    let planned = plan(&view, &world.wanted);
    assert_eq!(planned.actions, []);
    assert_eq!(planned.blocked.unwrap().reason, Reason::WrongCluster);
    // Before the cluster is known, nobody is believed and nobody is made.
    let mut view = World::of(0, 3).view();
    view.foreign = vec!["demo-1".into()];
    assert_eq!(plan(&view, &world.wanted).actions, []);
}

#[test]
fn a_list_that_one_member_made_for_itself_puts_nobody_away() {
    for (count, kept) in [(3, 1), (5, 1), (5, 2), (2, 1)] {
        let mut world = World::of(count, count as usize);
        let roster = world.observed.roster.as_mut().unwrap();
        roster.entries.retain(|entry| entry.id <= kept);
        let planned = plan(&world.view(), &world.wanted);
        assert_eq!(planned.actions, [], "{kept} of {count}");
        assert_eq!(planned.blocked.unwrap().reason, Reason::WouldLoseQuorum);
    }
}

#[test]
fn members_removed_by_hand_are_put_away_within_the_limit() {
    let mut world = World::of(5, 5);
    let roster = world.observed.roster.as_mut().unwrap();
    roster.entries.retain(|entry| entry.id != 5);
    world.observed.replacements = 6;
    world.wanted.replacements_per_hour = 6;
    assert_eq!(deletes(&plan(&world.view(), &world.wanted).actions), 0);
    world.observed.replacements = 5;
    assert_eq!(deletes(&plan(&world.view(), &world.wanted).actions), 1);
}

#[test]
fn a_pod_that_has_ended_is_restarted_though_the_template_waits_for_a_person() {
    let mut world = World::of(3, 3);
    world.wanted.rolling = false;
    world.observed.members[0].pod.as_mut().unwrap().outdated = true;
    let member = world.member("demo-3").unwrap();
    member.healthy = false;
    let pod = member.pod.as_mut().unwrap();
    (pod.outdated, pod.spent) = (true, true);
    pod.state = PodState::Broken {
        since: 1000,
        starved: true,
    };
    assert_eq!(
        world.tick(),
        [Action::RestartPod {
            member: "demo-3".into()
        }]
    );
    assert_eq!(deletes(&all_actions(&mut world, 40)), 0);
    assert_eq!(world.healthy_voters(), 3);
    let old = world.observed.members[0].pod.as_ref().unwrap();
    assert!(old.outdated, "the template waits for its person");
}

/// Held for a day: what is done about each way of being gone, and whether the member is replaced.
#[test]
fn every_way_of_being_gone_comes_to_its_end() {
    for wedge in [
        Wedge::Starting,
        Wedge::Cordoned,
        Wedge::Hanging,
        Wedge::Failing,
    ] {
        let mut world = World::of(3, 3);
        world.wedge("demo-2", wedge);
        assert_eq!(
            deletes(&all_actions(&mut world, 8)),
            0,
            "{wedge:?}: at once"
        );
        all_actions(&mut world, 17_280);
        assert!(world.observed.member("demo-2").is_none(), "{wedge:?}");
        assert!(world.is_settled(), "{wedge:?}");
    }
    // What another one would lack as well, or what only the operator does not see, is said.
    let since = 0;
    for (state, lacking) in [
        (PodState::Starting { since }, true),
        (
            PodState::Unplaced {
                since,
                lack: Lack::Other,
            },
            false,
        ),
        (
            PodState::Unplaced {
                since,
                lack: Lack::Distance,
            },
            false,
        ),
        (
            PodState::Running {
                ready_since: Some(0),
            },
            false,
        ),
    ] {
        let mut world = World::of(3, 3);
        world.observed.lacking = lacking;
        let member = world.member("demo-2").unwrap();
        (member.healthy, member.away_since) = (false, Some(0));
        member.pod.as_mut().unwrap().state = state.clone();
        let planned = plan(&world.view(), &world.wanted);
        assert_eq!(planned.actions, [], "{state:?}");
        assert_eq!(
            planned.blocked.unwrap().reason,
            Reason::MemberNotReady,
            "{state:?}"
        );
    }
    let mut world = World::of(3, 3);
    let member = world.member("demo-2").unwrap();
    (member.healthy, member.away_since) = (false, Some(0));
    member.pod.as_mut().unwrap().state = PodState::Terminating { since };
    world.settle();
    assert!(world.observed.member("demo-2").is_none(), "it does not end");
}

#[test]
fn two_that_are_stuck_of_three_are_left_alone() {
    for wedge in [Wedge::Starting, Wedge::Cordoned, Wedge::Hanging] {
        let mut world = World::of(3, 3);
        world.wedge("demo-2", wedge);
        world.wedge("demo-3", wedge);
        assert_eq!(deletes(&all_actions(&mut world, 17_280)), 0, "{wedge:?}");
        let blocked = plan(&world.view(), &world.wanted).blocked.unwrap();
        assert_eq!(blocked.reason, Reason::QuorumLost);
    }
}

#[test]
fn a_member_with_other_data_is_replaced_where_a_majority_agrees() {
    for (count, bad) in [(3, 1), (5, 2), (3, 3)] {
        let mut world = World::of(count, count as usize);
        world.corrupt(&format!("demo-{bad}"));
        let actions = all_actions(&mut world, 60);
        let corrupt = |action: &&Action| {
            matches!(
                action,
                Action::DeleteMember {
                    cause: Cause::Corrupt,
                    ..
                }
            )
        };
        assert_eq!(actions.iter().filter(corrupt).count(), 1);
        world.settle();
        assert!(world.observed.member(&format!("demo-{bad}")).is_none());
    }
}

#[test]
fn of_two_that_differ_nobody_is_touched() {
    // While a third one is being replaced.
    let mut world = World::of(2, 2);
    world.corrupt("demo-1");
    world.corrupt("demo-2");
    assert_eq!(all_actions(&mut world, 1000), []);
    let blocked = plan(&world.view(), &world.wanted).blocked.unwrap();
    assert_eq!(blocked.reason, Reason::Corrupt);
    assert!(blocked.message.contains("disarm"), "{}", blocked.message);
    // And where the list is given though only one is fenced.
    let mut world = World::of(2, 2);
    world.corrupt("demo-1");
    let planned = plan(&world.observed, &world.wanted);
    assert_eq!(planned.actions, []);
    assert_eq!(planned.blocked.unwrap().reason, Reason::Corrupt);
}

#[test]
fn a_learner_that_applies_nothing_is_taken_out_and_the_next_ones_wait_longer_and_longer() {
    let mut world = World::of(3, 5);
    world.learners_stall = true;
    let mut joined = Vec::new();
    for _ in 0..2000 {
        let now = world.observed.now;
        let actions = world.tick();
        let adds = actions
            .iter()
            .any(|a| matches!(a, Action::AddLearner { .. }));
        joined.extend(adds.then_some(now));
    }
    let waits: Vec<i64> = joined.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 4, "{waits:?}");
    assert!(waits.is_sorted() && waits[3] > 2 * waits[0], "{waits:?}");
    assert_eq!(world.voters(), 3);
    let mut blocked = Vec::new();
    for _ in 0..1000 {
        world.tick();
        blocked.extend(
            plan(&world.view(), &world.wanted)
                .blocked
                .map(|note| note.reason),
        );
    }
    assert!(blocked.contains(&Reason::LearnerStuck));
    world.learners_stall = false;
    world.settle();
}

#[test]
fn a_learner_that_stalls_does_not_hold_up_a_change() {
    let mut world = World::of(3, 5);
    world.wanted.stuck_after = std::time::Duration::from_secs(1_000_000);
    world.learners_stall = true;
    all_actions(&mut world, 40);
    assert_eq!(
        world.observed.roster.as_ref().unwrap().learners().count(),
        1
    );
    world.change_template(false);
    all_actions(&mut world, 100);
    let outdated = |one: &crate::plan::Member| one.pod.as_ref().is_some_and(|pod| pod.outdated);
    let voters = &world.observed.members[..3];
    assert!(!voters.iter().any(outdated), "{voters:?}");
}

#[test]
fn no_cluster_is_founded_beside_members_of_one_that_is_gone() {
    let mut world = World::of(0, 3);
    world.observed.strangers = vec!["demo-1".into(), "demo-2".into()];
    let planned = plan(&world.view(), &world.wanted);
    assert_eq!(planned.actions, []);
    let blocked = planned.blocked.unwrap();
    assert_eq!(blocked.reason, Reason::AlreadyExists);
    assert!(
        blocked.message.contains("demo-1, demo-2"),
        "{}",
        blocked.message
    );
    world.observed.strangers.clear();
    world.settle();
}

#[test]
fn a_voter_whose_object_is_not_the_clusters_own_stays_a_voter_and_nobody_joins_in_its_place() {
    let mut world = World::of(3, 3);
    let stranger = world.observed.members.remove(1);
    world.observed.strangers = vec![stranger.name.clone()];
    for _ in 0..5 {
        let planned = plan(&world.view(), &world.wanted);
        assert_eq!(planned.actions, []);
        let blocked = planned.blocked.unwrap();
        assert_eq!(blocked.reason, Reason::ForeignMember);
        assert!(blocked.message.contains("demo-2"), "{}", blocked.message);
        world.tick();
    }
    // Once it has no object at all it is gone, and replaced.
    world.observed.strangers.clear();
    world.settle();
    assert_eq!(world.voters(), 3);
    assert!(world.observed.member("demo-4").is_some());
}
