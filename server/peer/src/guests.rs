//! The connections that others opened to this member, and who goes where there are too many.
//!
//! Whoever reaches the port can open connections and say nothing, or a byte now and then, or ask for
//! `/version` for ever. Until a call on it came from a member that the table knows by its incarnation a
//! connection is a stranger's, and the stranger that came first makes way for whoever comes next: a
//! member says who it is as soon as it is connected, and is none from then on.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{AbortHandle, JoinSet};

/// Whether a member is at the other end of a connection. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<AtomicBool>);

impl Known {
    /// A member has said who it is.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_member(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module. At most `most` connections, members' or not, but for those that are just being closed.
pub(super) struct Guests {
    most: usize,
    connections: JoinSet<()>,
    /// Strangers' connections, the one that came first at the front.
    strangers: VecDeque<Stranger>,
}

struct Stranger {
    connection: AbortHandle,
    known: Known,
}

/// What became of a connection that was to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// There was room.
    Yes,
    /// Another stranger's was closed for it.
    ForAnother,
    /// No: members have all of them.
    No,
}

impl Guests {
    pub fn new(most: usize) -> Guests {
        Guests {
            most,
            connections: JoinSet::new(),
            strangers: VecDeque::new(),
        }
    }

    /// Lets a connection in: `serve` is told where to note that a member is at its other end.
    pub fn admit<F>(&mut self, serve: impl FnOnce(Known) -> F) -> Admitted
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while self.connections.try_join_next().is_some() {}
        self.strangers
            .retain(|one| !one.connection.is_finished() && !one.known.is_member());
        let mut admitted = Admitted::Yes;
        if self.connections.len() >= self.most {
            let Some(first) = self.strangers.pop_front() else {
                return Admitted::No;
            };
            first.connection.abort();
            admitted = Admitted::ForAnother;
        }
        let known = Known::default();
        let connection = self.connections.spawn(serve(known.clone()));
        self.strangers.push_back(Stranger { connection, known });
        admitted
    }

    /// Resolves once a connection has ended; none where there is none.
    pub async fn next_ended(&mut self) -> Option<()> {
        // One that panicked or was closed has ended as well.
        self.connections.join_next().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that lasts, and how many there are.
    async fn lasting(open: Arc<()>) {
        std::future::pending::<()>().await;
        drop(open);
    }

    async fn settled(open: &Arc<()>) -> usize {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        Arc::strong_count(open) - 1
    }

    #[tokio::test]
    async fn the_stranger_that_came_first_makes_way_and_members_stay() {
        let (mut guests, open) = (Guests::new(3), Arc::new(()));
        let mut marks = Vec::new();
        let admit = |guests: &mut Guests, marks: &mut Vec<Known>| {
            let open = open.clone();
            guests.admit(|known| {
                marks.push(known);
                lasting(open)
            })
        };
        for _ in 0..3 {
            assert_eq!(admit(&mut guests, &mut marks), Admitted::Yes);
        }
        marks[0].note();
        assert_eq!(admit(&mut guests, &mut marks), Admitted::ForAnother);
        assert_eq!(settled(&open).await, 3);
        assert_eq!(guests.next_ended().await, Some(()), "the second one's");
        // However many come: the member's stays, and the last that came.
        for _ in 0..1_000 {
            assert_ne!(admit(&mut guests, &mut marks), Admitted::No);
            assert!(settled(&open).await <= 3);
        }
        assert!(guests.strangers.len() <= 3, "what has ended is forgotten");
        for mark in &marks {
            mark.note();
        }
        assert_eq!(admit(&mut guests, &mut marks), Admitted::No);
        assert_eq!(settled(&open).await, 3);
    }
}
