//! Simple tokens. A token is assigned where the entry that asks for it is applied, so that every
//! member knows it; how long it still counts is each member's own matter, as in etcd.
//!
//! Source: etcd's `server/auth/simple_token.go`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::types::auth::{AuthOp, Secret};
use crate::types::request::Op;
use crate::types::result::{Applied, Outcome};

/// Letters of a token's first part (etcd's).
const PREFIX_LEN: usize = 16;
/// The letters that it is made of (etcd's).
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Tokens held at once. Whoever asks for more costs those that end soonest.
const TOKENS_MAX: usize = 1 << 20;
/// Tokens from which on those that have ended are looked for.
const SWEEP_FROM: usize = 1024;

/// See the module.
pub struct Tokens {
    ttl_ms: u64,
    /// The log's end when the member started: what was assigned up to there may have ended long ago.
    begins_after: u64,
    started: Instant,
    table: RwLock<Table>,
}

struct Table {
    held: HashMap<Vec<u8>, Held>,
    /// How many tokens there may be before the ended ones are dropped.
    sweep_at: usize,
}

struct Held {
    user: Arc<str>,
    /// Milliseconds after the start at which it ends; later with each use.
    ends_ms: AtomicU64,
}

impl Tokens {
    /// No tokens yet; each will count for `ttl` after its last use. Those of entries up to
    /// `begins_after`, the end of the log that the member starts with, count no more, as in etcd:
    /// nobody knows when they were last used.
    pub fn new(ttl: Duration, begins_after: u64) -> Tokens {
        Tokens {
            begins_after,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            started: Instant::now(),
            table: RwLock::new(Table {
                held: HashMap::new(),
                sweep_at: SWEEP_FROM,
            }),
        }
    }

    /// The random first part of a token.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn prefix() -> Result<Secret, getrandom::Error> {
        let mut prefix = Vec::with_capacity(PREFIX_LEN);
        // Bytes beyond the last multiple of the letters would make some likelier.
        let fair = u8::MAX - u8::MAX % 52;
        while prefix.len() < PREFIX_LEN {
            let mut random = [0; PREFIX_LEN];
            getrandom::fill(&mut random)?;
            let letters = random.iter().filter(|byte| **byte < fair);
            prefix.extend(letters.map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()]));
        }
        prefix.truncate(PREFIX_LEN);
        Ok(Secret(prefix))
    }

    /// The index of the entry that a token was assigned at; none for what is no token.
    pub fn index(token: &str) -> Option<u64> {
        let (_, index) = token.split_once('.')?;
        index.parse().ok()
    }

    /// Whose token it is. It counts anew from now on.
    pub fn user(&self, token: &str) -> Option<Arc<str>> {
        let now = self.now_ms();
        let table = self.table.read();
        let held = table.held.get(token.as_bytes())?;
        if held.ends_ms.load(Ordering::Relaxed) <= now {
            return None;
        }
        held.ends_ms
            .store(now.saturating_add(self.ttl_ms), Ordering::Relaxed);
        Some(held.user.clone())
    }

    /// Takes note of what was applied, before any of it is shown.
    pub fn applied(&self, op: &Op, outcome: &Outcome) {
        match (op.bare(), &outcome.result) {
            (Op::Auth(AuthOp::Authenticate { user, .. }), Ok(Applied::Token(token))) => {
                self.assign(&token.0, user);
            }
            (
                Op::Auth(AuthOp::UserDelete(user) | AuthOp::UserChangePassword { name: user, .. }),
                Ok(_),
            ) => self
                .table
                .write()
                .held
                .retain(|_, held| *held.user != **user),
            (Op::Auth(AuthOp::Disable), Ok(_)) => self.clear(),
            _ => {}
        }
    }

    /// Forgets them all: whoever held one authenticates anew.
    pub fn clear(&self) {
        self.table.write().held.clear();
    }

    fn assign(&self, token: &[u8], user: &str) {
        let index = std::str::from_utf8(token).ok().and_then(Tokens::index);
        if index.is_none_or(|index| index <= self.begins_after) {
            return;
        }
        let now = self.now_ms();
        let held = Held {
            user: Arc::from(user),
            ends_ms: AtomicU64::new(now.saturating_add(self.ttl_ms)),
        };
        let mut table = self.table.write();
        table.sweep(now);
        table.held.insert(token.to_vec(), held);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Table {
    /// Drops what has ended, once there are twice as many as the last time.
    fn sweep(&mut self, now: u64) {
        if self.held.len() < self.sweep_at {
            return;
        }
        self.held
            .retain(|_, held| held.ends_ms.load(Ordering::Relaxed) > now);
        if self.held.len() >= TOKENS_MAX {
            self.drop_half();
        }
        self.sweep_at = (2 * self.held.len()).clamp(SWEEP_FROM, TOKENS_MAX);
    }

    /// Drops the half that ends first.
    fn drop_half(&mut self) {
        let ends = |held: &Held| held.ends_ms.load(Ordering::Relaxed);
        let mut all: Vec<u64> = self.held.values().map(ends).collect();
        let middle = all.len() / 2;
        let (_, until, _) = all.select_nth_unstable(middle);
        let until = *until;
        let mut left = middle + 1;
        self.held.retain(|_, held| {
            let drops = left > 0 && ends(held) <= until;
            left -= usize::from(drops);
            !drops
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Revision;

    fn authenticate(tokens: &Tokens, user: &str, token: &str) {
        let op = Op::Auth(AuthOp::Authenticate {
            user: user.into(),
            token_prefix: Secret::default(),
        });
        let token = Applied::Token(Secret(token.into()));
        tokens.applied(&op, &Outcome::new(Revision(1), Ok(token)));
    }

    fn change(tokens: &Tokens, op: AuthOp) {
        let outcome = Outcome::new(Revision(1), Ok(Applied::Done));
        tokens.applied(&Op::Auth(op), &outcome);
    }

    #[test]
    fn a_token_goes_with_its_user_and_its_password_and_all_go_with_the_switch() {
        let tokens = Tokens::new(Duration::from_secs(300), 0);
        for (user, token) in [("alice", "a.1"), ("bob", "b.2"), ("bob", "c.3")] {
            authenticate(&tokens, user, token);
        }
        assert_eq!(tokens.user("a.1").as_deref(), Some("alice"));
        assert_eq!(tokens.user("a.2"), None);
        change(&tokens, AuthOp::UserDelete("bob".into()));
        assert_eq!((tokens.user("b.2"), tokens.user("c.3")), (None, None));
        authenticate(&tokens, "alice", "d.4");
        let name = "alice".to_owned();
        let password_hash = Secret::default();
        change(
            &tokens,
            AuthOp::UserChangePassword {
                name,
                password_hash,
            },
        );
        assert_eq!((tokens.user("a.1"), tokens.user("d.4")), (None, None));
        authenticate(&tokens, "alice", "e.5");
        change(&tokens, AuthOp::Disable);
        assert_eq!(tokens.user("e.5"), None);
    }

    #[test]
    fn what_was_assigned_before_the_start_counts_no_more() {
        let tokens = Tokens::new(Duration::from_secs(300), 7);
        for token in ["a.7", "b.8"] {
            authenticate(&tokens, "alice", token);
        }
        assert_eq!(
            (tokens.user("a.7"), tokens.user("b.8").is_some()),
            (None, true)
        );
    }

    #[test]
    fn a_token_lives_from_its_last_use_on() {
        let tokens = Tokens::new(Duration::from_millis(400), 0);
        authenticate(&tokens, "alice", "a.1");
        authenticate(&tokens, "alice", "b.2");
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(100));
            assert!(tokens.user("a.1").is_some());
        }
        assert_eq!(tokens.user("b.2"), None);
    }

    #[test]
    fn ended_tokens_are_dropped_and_too_many_cost_those_that_end_first() {
        let tokens = Tokens::new(Duration::ZERO, 0);
        for n in 1..10 * SWEEP_FROM {
            authenticate(&tokens, "alice", &format!("a.{n}"));
        }
        assert!(tokens.table.read().held.len() <= SWEEP_FROM);
        let mut table = Table {
            held: HashMap::new(),
            sweep_at: 0,
        };
        for n in 0..10_u64 {
            let ends_ms = AtomicU64::new(n);
            let user = Arc::from("alice");
            table.held.insert(vec![n as u8], Held { user, ends_ms });
        }
        table.drop_half();
        assert!(table.held.keys().all(|token| token[0] > 5));
        assert_eq!(table.held.len(), 4);
    }

    #[test]
    fn a_token_names_its_entry() {
        assert_eq!(Tokens::index("abcdefghijklmnop.17"), Some(17));
        for text in ["", "a", "a.", "a.b", "a.1.2", "a.99999999999999999999999"] {
            assert_eq!(Tokens::index(text), None, "{text}");
        }
        let (one, other) = (Tokens::prefix().unwrap(), Tokens::prefix().unwrap());
        assert_eq!(one.0.len(), PREFIX_LEN);
        assert!(one.0.iter().all(u8::is_ascii_alphabetic));
        assert!(one != other);
    }
}
