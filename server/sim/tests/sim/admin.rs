//! An administrator: adds a member as a learner, starts it, gives it its vote, and takes another one out of
//! the cluster, whatever happens meanwhile.

use std::cell::RefCell;
use std::rc::Rc;

use engram_process::threads::steps;
use engram_server::api::backend::{Backend as _, MemberChange, MemberError};
use engram_server::types::MemberId;

use crate::member::Member;
use crate::net;
use crate::random::Random;

/// One change begins in so many turns.
const BEGINS_ONCE_IN: u64 = 1_500;
/// How long the administrator rests after an answer. Turns.
const PAUSE: u64 = 150;
/// The most members that are added.
pub const ADDED_MAX: usize = 2;

type Answer = Rc<RefCell<Option<Result<(), MemberError>>>>;

/// What is being done.
#[derive(Clone, Debug)]
enum Doing {
    Nothing,
    /// Adding the member of an id at a place.
    Adding(MemberId, usize),
    /// Giving it its vote.
    Promoting(MemberId),
    /// Taking one out.
    Removing(MemberId, usize),
}

/// What the cluster is to do for the administrator.
#[derive(Debug)]
pub enum Order {
    /// Start a new member at a place.
    Start(usize, MemberId),
    /// End the process of a member that is none any more, for good.
    Retire(usize),
}

/// See the module.
pub struct Admin {
    random: Random,
    doing: Doing,
    asked: Option<(usize, u64, Answer)>,
    rests: u64,
    added: usize,
    /// Where members are, and who.
    known: Vec<(MemberId, usize)>,
    /// Changes that were made.
    pub changes: u64,
}

impl Admin {
    /// One who has done nothing yet.
    pub fn new(seed: u64) -> Admin {
        Admin {
            random: Random::new(seed),
            doing: Doing::Nothing,
            asked: None,
            rests: 0,
            added: 0,
            known: Vec::new(),
            changes: 0,
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.doing, Doing::Nothing)
    }

    /// Goes on with what is under way, or begins something.
    pub fn turn(&mut self, members: &[Member], may_begin: bool) -> Option<Order> {
        if self.rests > 0 {
            self.rests -= 1;
            return None;
        }
        if let Some((place, life, answer)) = &self.asked {
            let answered = answer.borrow_mut().take();
            if answered.is_none() && members[*place].life == *life && members[*place].is_up() {
                return None;
            }
            self.asked = None;
            self.rests = PAUSE;
            return self.hear(answered.unwrap_or(Err(MemberError::Stopped)));
        }
        if self.is_idle() {
            if may_begin && self.random.once_in(BEGINS_ONCE_IN) {
                self.begin(members);
            }
            return None;
        }
        self.ask(members);
        None
    }

    fn begin(&mut self, members: &[Member]) {
        let living: Vec<&Member> = members.iter().filter(|member| !member.is_gone).collect();
        let may_go = living.len() > 2 && self.changes > 0;
        if may_go && self.random.once_in(2) {
            let out = living[self.random.index(living.len())];
            if let Some(id) = self.id_of(members, out.place) {
                self.doing = Doing::Removing(id, out.place);
            }
            return;
        }
        if self.added == ADDED_MAX {
            return;
        }
        let asked = living[self.random.index(living.len())];
        let place = members.len();
        let urls = [net::url(place)];
        if let Some(id) = asked.with(|staged, _| staged.core.choose_member_id(&urls)) {
            self.added += 1;
            self.doing = Doing::Adding(id, place);
        }
    }

    fn id_of(&self, members: &[Member], place: usize) -> Option<MemberId> {
        let known = self.known.iter().find(|(_, at)| *at == place);
        let own = members[place].with(|staged, _| staged.core.member);
        own.or(known.map(|(id, _)| *id))
    }

    /// Asks any member, again and again.
    fn ask(&mut self, members: &[Member]) {
        let change = match self.doing.clone() {
            Doing::Nothing => return,
            Doing::Adding(id, place) => MemberChange::Add {
                id,
                peer_urls: vec![net::url(place)],
                learner: true,
            },
            Doing::Promoting(id) => MemberChange::Promote { id },
            Doing::Removing(id, _) => MemberChange::Remove { id },
        };
        let member = &members[self.random.index(members.len())];
        if member.is_gone {
            return;
        }
        let answer = Answer::default();
        let into = answer.clone();
        let asked = member.with(|staged, tasks| {
            let core = staged.core.clone();
            tasks.spawn_local(async move {
                let changed = core.change_members(change).await;
                if !steps::has_ended() {
                    *into.borrow_mut() = Some(changed.map(drop));
                }
            });
        });
        if asked.is_some() {
            self.asked = Some((member.place, member.life, answer));
        }
    }

    /// What an answer leads to. Whatever is not known to be done is asked for again.
    fn hear(&mut self, answer: Result<(), MemberError>) -> Option<Order> {
        match (self.doing.clone(), answer) {
            // It may have been added by an answer that was lost.
            (
                Doing::Adding(id, place),
                Ok(()) | Err(MemberError::Exists | MemberError::UrlExists),
            ) => Some(self.start(id, place)),
            (Doing::Promoting(_), Ok(_) | Err(MemberError::NotLearner)) => {
                self.done();
                None
            }
            (Doing::Removing(_, place), Ok(_) | Err(MemberError::NotFound)) => {
                self.done();
                Some(Order::Retire(place))
            }
            // The others may be down for long: another time.
            (Doing::Removing(..), Err(MemberError::Unhealthy | MemberError::NotEnoughStarted)) => {
                self.doing = Doing::Nothing;
                None
            }
            _ => None,
        }
    }

    fn done(&mut self) {
        self.changes += 1;
        self.doing = Doing::Nothing;
    }

    fn start(&mut self, id: MemberId, place: usize) -> Order {
        self.doing = Doing::Promoting(id);
        self.known.push((id, place));
        Order::Start(place, id)
    }
}
