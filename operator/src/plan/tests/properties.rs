//! Whatever happens to less than a quorum, and whatever is asked for: the quorum is kept by every
//! step (the simulation asserts it), and in the end everything is as it is wanted.

use proptest::prelude::*;

use super::simulation::{Wedge, World};
use crate::plan::{Member, Node, PodState, Volume, plan};

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    LosePod(usize),
    Hang(usize),
    Lag(usize),
    LoseVolume(usize),
    CondemnVolume(usize),
    LoseNode(usize),
    NodeReturns(usize),
    Scale(usize),
    Rest,
    ChangeTemplate,
    BadTemplate(usize),
    Wedge(usize, Wedge),
    Corrupt(usize),
    StallLearners(usize),
    DeleteMember(usize),
    GrowVolumes,
    Pass(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..7_usize).prop_map(Event::LosePod),
        1 => (0..7_usize).prop_map(Event::Hang),
        1 => (0..7_usize).prop_map(Event::Lag),
        2 => (0..7_usize).prop_map(Event::LoseVolume),
        1 => (0..7_usize).prop_map(Event::CondemnVolume),
        2 => (0..7_usize).prop_map(Event::LoseNode),
        2 => (0..7_usize).prop_map(Event::NodeReturns),
        2 => prop::sample::select(vec![1, 3, 5, 7]).prop_map(Event::Scale),
        1 => Just(Event::Rest),
        2 => Just(Event::ChangeTemplate),
        1 => (1..60_usize).prop_map(Event::BadTemplate),
        2 => (0..7_usize, wedge()).prop_map(|(index, wedge)| Event::Wedge(index, wedge)),
        1 => (0..7_usize).prop_map(Event::Corrupt),
        1 => (1..60_usize).prop_map(Event::StallLearners),
        1 => (0..7_usize).prop_map(Event::DeleteMember),
        1 => Just(Event::GrowVolumes),
        8 => (1..30_usize).prop_map(Event::Pass),
    ]
}

fn wedge() -> impl Strategy<Value = Wedge> {
    prop::sample::select(vec![
        Wedge::Starting,
        Wedge::Cordoned,
        Wedge::Hanging,
        Wedge::Failing,
    ])
}

/// The name of the member that an event means, if the event leaves a quorum of data alive.
fn target(world: &World, index: usize) -> Option<String> {
    let members = &world.observed.members;
    members
        .get(index % members.len().max(1))
        .map(|member| member.name.clone())
}

/// Whether losing this member for good leaves a quorum of intact voters: more than that nobody can
/// heal.
fn survivable(world: &World, name: &str) -> bool {
    let Some(roster) = &world.observed.roster else {
        return false;
    };
    let intact = |entry: &&crate::plan::Entry| {
        let member = world.observed.member(&entry.member);
        let intact = |member: &Member| member.healthy && member.volume == Volume::Present;
        entry.member != name && member.is_some_and(intact)
    };
    roster.voters().filter(intact).count() > roster.voters().count() / 2
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::LosePod(index) => {
            // With its pod a condemned volume goes as well.
            let held = |name: &String| {
                let member = world.observed.member(name);
                member.is_some_and(|member| member.volume == Volume::Terminating)
            };
            let name = target(world, *index).filter(|name| !held(name) || survivable(world, name));
            if let Some(name) = name {
                world.lose_pod(&name);
            }
        }
        Event::Hang(index) => {
            let runs = |name: &String| {
                let member = world.observed.member(name);
                let member = member.filter(|member| member.volume == Volume::Present);
                let pod = member.and_then(|member| member.pod.as_ref());
                pod.is_some_and(|pod| matches!(pod.state, PodState::Running { .. }))
            };
            if let Some(name) = target(world, *index).filter(runs) {
                world.hang(&name);
            }
        }
        Event::Lag(index) => {
            let name = target(world, *index);
            if let Some(member) = name.and_then(|name| world.member(&name)) {
                member.caught_up = false;
            }
        }
        Event::LoseVolume(index) => {
            if let Some(name) = target(world, *index).filter(|name| survivable(world, name)) {
                world.lose_volume(&name);
            }
        }
        // Its claim is deleted, and stays for as long as the pod uses it.
        Event::CondemnVolume(index) => {
            let name = target(world, *index).filter(|name| survivable(world, name));
            let member = name.and_then(|name| world.member(&name));
            if let Some(member) = member.filter(|member| member.volume == Volume::Present) {
                member.volume = Volume::Terminating;
            }
        }
        Event::LoseNode(index) => {
            if let Some(name) = target(world, *index).filter(|name| survivable(world, name)) {
                world.lose_node(&name);
            }
        }
        Event::NodeReturns(index) => {
            let name = target(world, *index);
            let member = name.as_deref().and_then(|name| world.member(name));
            if let Some(member) = member.filter(|member| matches!(member.node, Node::Lost { .. })) {
                member.node = Node::Ready;
                member.pod = None;
            }
        }
        Event::Scale(replicas) => {
            world.wanted.replicas = world.places.map_or(*replicas, |most| most.min(*replicas));
        }
        Event::Rest => world.wanted.replicas = 0,
        Event::ChangeTemplate => world.change_template(false),
        // One that lets nobody start, for so many passes, and what is wanted then is good.
        Event::BadTemplate(ticks) => {
            world.change_template(true);
            (0..*ticks).for_each(|_| drop(world.tick()));
            world.change_template(false);
        }
        // Not during a change: what fails then may be the change.
        Event::Wedge(index, wedge) => {
            let mut pods = world
                .observed
                .members
                .iter()
                .filter_map(|one| one.pod.as_ref());
            let changes = pods.any(|pod| pod.outdated);
            let name = target(world, *index).filter(|name| !changes && survivable(world, name));
            if let Some(name) = name {
                world.wedge(&name, *wedge);
            }
        }
        Event::Corrupt(index) => {
            if let Some(name) = target(world, *index).filter(|name| survivable(world, name)) {
                world.corrupt(&name);
            }
        }
        Event::StallLearners(ticks) => {
            world.learners_stall = true;
            (0..*ticks).for_each(|_| drop(world.tick()));
            world.learners_stall = false;
        }
        Event::DeleteMember(index) => {
            if let Some(name) = target(world, *index) {
                world.member(&name).expect("it exists").deleting = true;
            }
        }
        Event::GrowVolumes => {
            world
                .observed
                .members
                .iter_mut()
                .for_each(|member| member.volume_small = true);
        }
        Event::Pass(ticks) => (0..*ticks).for_each(|_| drop(world.tick())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_settles_and_keeps_its_quorum(
        count in prop::sample::select(vec![0_u32, 1, 3, 5]),
        replicas in prop::sample::select(vec![1_usize, 3, 5, 7]),
        events in prop::collection::vec(event(), 0..25),
        last in prop::sample::select(vec![1_usize, 3, 5, 7]),
        places in prop::option::of(prop::sample::select(vec![3_usize, 5, 7])),
    ) {
        let mut world = World::of(count, replicas);
        // No two members may share a node, and there are as many nodes as members at the most.
        world.places = places.map(|places| places.max(replicas).max(last).max(count as usize));
        for event in &events {
            happen(&mut world, event);
            // What is planned is a function of what is seen.
            prop_assert_eq!(plan(&world.view(), &world.wanted), plan(&world.view(), &world.wanted));
        }
        world.wanted.replicas = last;
        world.settle();
        // And then nothing more is done.
        let before = world.observed.clone();
        prop_assert!(world.tick().is_empty());
        prop_assert_eq!(before.members, world.observed.members);
    }

    #[test]
    fn nothing_is_done_on_a_view_that_may_be_old(
        events in prop::collection::vec(event(), 0..10),
    ) {
        let mut world = World::of(3, 3);
        events.iter().for_each(|event| happen(&mut world, event));
        let mut view = world.view();
        view.fresh = false;
        prop_assert_eq!(plan(&view, &world.wanted), crate::plan::Plan::default());
    }
}
