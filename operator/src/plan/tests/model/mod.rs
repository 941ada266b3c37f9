//! A model of Kubernetes and of members, deep enough that what the operator sees is not what is: nodes,
//! kubelets and machines that vanish each for itself, volumes local and remote, a scheduler, budgets, a log
//! that is replicated, people who edit whatever they like, views that grow old between look and step, an
//! operator that dies between two steps. Each history is its seed's.
//!
//! What must never happen is an error that says when (`Broken`); what happened before it is kept for whoever
//! looks into it.

mod acts;
mod dice;
mod faults;
mod kube;
mod laws;
mod raft;
mod recovery;
mod runs;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use crate::plan::{Plan, Wanted, plan};
use acts::Sighted;
use dice::Dice;
use kube::{Claim, Node, Pod};
use raft::Raft;
use recovery::Recovery;

/// Seconds between two looks.
const TICK: i64 = 5;
/// Histories from this seed on lose their quorum often, and have it recovered.
const RECOVERIES: u64 = 1 << 40;
/// How much of what happened is kept.
const TOLD: usize = 120;

/// A law that was broken, in words.
pub struct Broken(pub String);

pub type Kept = Result<(), Broken>;

/// The object of a member, and what the operator has written into its status.
#[derive(Clone, Debug, Default)]
struct Object {
    name: String,
    number: u32,
    uid: u64,
    seed: bool,
    deleting: bool,
    /// Whether a person deleted it.
    by_hand: bool,
    keeps_volume: bool,
    listed_before: bool,
    initialized: bool,
    /// Whether it votes, as far as is known.
    votes: Option<bool>,
    /// How often a pod of it was about to be made on its volume that founds the cluster.
    begun: usize,
    away_since: Option<i64>,
    node: Option<usize>,
    node_lost_since: Option<i64>,
    /// What it had applied, and since when.
    catching_up: Option<(u64, i64)>,
    /// Whether it has ever served with a vote: what the operator may not know yet.
    had_data: bool,
    /// Whether somebody cut it off by making another member a cluster of its own.
    disowned: bool,
    /// Since when nobody reaches it, though it runs.
    unreachable: bool,
    /// Whether its pods wait in vain for something of their own.
    starts_never: bool,
    /// Whether it lacks memory.
    starved: bool,
}

/// What the operator has written into the cluster's status.
#[derive(Clone, Debug, Default)]
struct Status {
    founded: bool,
    last_number: u32,
    replacements: Vec<i64>,
    learners_out: Vec<i64>,
}

/// All of it.
pub struct World {
    dice: Dice,
    now: i64,
    uids: u64,
    nodes: Vec<Node>,
    claims: BTreeMap<String, Claim>,
    pods: BTreeMap<String, Pod>,
    objects: Vec<Object>,
    raft: Option<Raft>,
    wanted: Wanted,
    status: Status,
    /// Whether volumes stay where they were made.
    local: bool,
    /// Whether two members may share a node.
    apart: bool,
    /// The template that is wanted now, and whether pods of it start.
    template: (u32, bool),
    learners_stall: bool,
    lacking: bool,
    /// The member at whose address another cluster answers.
    foreign: Option<String>,
    /// Whether the cluster served when the operator looked last.
    served: bool,
    /// Whether people have lost quorums recovered, and how far one of these is.
    recovers: bool,
    recovery: Option<Recovery>,
    /// Passes that fail before they see anything.
    outage: usize,
    /// Disruptive steps, and when.
    steps: Vec<i64>,
    /// When members were given up.
    given_up: Vec<i64>,
    told: VecDeque<String>,
}

impl World {
    /// Nothing yet but nodes and what is wanted.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let replicas = dice.pick(&[1, 3, 3, 3, 5]).expect("one of them");
        let spare = dice.below(3);
        let limit = dice.pick(&[2, 6, 1000]).expect("one of them");
        let wanted = Wanted {
            replicas,
            rolling: !dice.one_in(8),
            min_ready: Duration::from_secs(dice.pick(&[0, 0, 10]).expect("one of them")),
            unhealthy_after: Duration::from_secs(60),
            node_lost_after: Duration::from_secs(30),
            stuck_after: Duration::from_secs(90),
            replacements_per_hour: limit,
            ..Wanted::default()
        };
        let nodes = vec![Node::default(); replicas + spare];
        Self {
            local: dice.one_in(2),
            apart: dice.one_in(2),
            dice,
            now: 100_000,
            uids: 0,
            nodes,
            claims: BTreeMap::new(),
            pods: BTreeMap::new(),
            objects: Vec::new(),
            raft: None,
            wanted,
            status: Status::default(),
            template: (1, true),
            learners_stall: false,
            lacking: false,
            foreign: None,
            served: false,
            recovers: seed >= RECOVERIES,
            recovery: None,
            outage: 0,
            steps: Vec::new(),
            given_up: Vec::new(),
            told: VecDeque::new(),
        }
    }

    fn uid(&mut self) -> u64 {
        self.uids += 1;
        self.uids
    }

    fn tell(&mut self, words: impl FnOnce() -> String) {
        let words = words();
        // What is done again and again is told of once.
        if self.told.back().is_some_and(|last| last.ends_with(&words)) {
            return;
        }
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        self.told.push_back(format!("{:>7} {words}", self.now));
    }

    /// What happened last, and how things stand.
    pub fn story(&self) -> String {
        let mut text = String::new();
        for line in &self.told {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "wanted {:?}", self.wanted);
        let _ = writeln!(text, "status {:?} {:?}", self.status, self.recovery);
        for node in &self.nodes {
            let _ = writeln!(text, "{node:?}");
        }
        for object in &self.objects {
            let _ = writeln!(text, "{object:?}\n  pod {:?}", self.pods.get(&object.name));
        }
        for (name, claim) in &self.claims {
            let _ = writeln!(text, "{name}: {claim:?}");
        }
        let _ = writeln!(text, "{:?}\nplan {:?}", self.raft, self.planned());
        text
    }

    fn planned(&self) -> Plan {
        plan(&self.view(), &self.wanted)
    }

    fn object(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.name == name)
    }

    fn object_mut(&mut self, name: &str) -> Option<&mut Object> {
        self.objects.iter_mut().find(|object| object.name == name)
    }

    fn claim_of(&self, object: &Object) -> Option<&Claim> {
        self.claims.get(&claim_name(object))
    }

    /// Time passes, in Kubernetes and among members.
    fn time(&mut self) -> Kept {
        self.now += TICK;
        self.nodes_turn();
        self.kubelets_turn()?;
        self.claims_turn();
        self.scheduler_turn();
        self.members_turn()
    }

    /// One pass of the operator. Between its look and its steps anything may happen, and between two steps it
    /// may die.
    fn pass(&mut self, troubled: bool) -> Result<Plan, Broken> {
        if self.outage > 0 {
            self.outage -= 1;
            return Ok(Plan::default());
        }
        let began = self.now;
        let mut seen = self.view();
        self.served = self.serves();
        self.remember(&seen);
        let wanted = self.wanted.clone();
        let pods = self.seen_pods();
        let held = self.recovery_form();
        if troubled && self.dice.one_in(6) {
            if self.dice.one_in(2) {
                self.misfortune();
            }
            for _ in 0..self.dice.below(6) {
                self.time()?;
            }
        }
        seen.fresh = self.now - began < 20;
        let planned = plan(&seen, &wanted);
        if planned != plan(&seen, &wanted) {
            return Err(Broken("the same view gives two plans".into()));
        }
        self.hold_plan(&seen, &wanted, &planned)?;
        if seen.fresh && !wanted.paused && held == self.recovery_form() {
            self.hold_aside(&planned, wanted.replicas)?;
        }
        let mut failed = false;
        for action in &planned.actions {
            if troubled && self.dice.one_in(40) {
                self.tell(|| "the operator dies between two steps".into());
                break;
            }
            if failed && action.is_disruptive() {
                continue;
            }
            failed |= !self.act(action, &seen, &pods)?;
        }
        self.go_on()?;
        Ok(planned)
    }
}

fn claim_name(object: &Object) -> String {
    format!("data-{}-{}", object.name, object.uid)
}
