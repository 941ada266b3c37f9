//! The network between the members of a cluster, in user space: every member advertises a gate of
//! this process as its peer URL, and each directed pair of members has a link that can be faulty.
//!
//! A peer dials its target's one advertised URL, so a gate has to find out who dials: it asks the
//! kernel (`/proc/net/tcp`, `/proc/PID/fd`) which member owns the other end of the connection. That
//! needs no privileges, no namespaces and no change of what is dialled, and works below TLS.
//!
//! A fault acts on the bytes from one member to another, in whichever direction the connection was
//! opened, and on connections that are open already as on new ones.

mod connection;
mod dialler;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::ports;

/// What a link does to the bytes from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// They arrive.
    Pass,
    /// They do not arrive, and nobody is told: as if packets were dropped. What was sent meanwhile
    /// arrives when the link passes again, as TCP would repeat it.
    Hold,
    /// Connections are ended, and new ones too.
    Reject,
    /// They arrive later: by `mean`, give or take up to `jitter`, in order.
    Delay {
        /// The middle of the delays.
        mean: Duration,
        /// The largest distance from it; at most `mean`.
        jitter: Duration,
    },
}

/// A link's behaviour as its connections see it.
#[derive(Clone, Copy, Debug)]
struct Rule {
    link: Link,
    /// Raised to end the connections that are open.
    cuts: u64,
}

/// The gates of all members and the links between them. Members go by their places in the cluster,
/// from 0. Dropped, it ends every connection.
pub struct Network {
    shared: Arc<Shared>,
    // Ends the gates' tasks when it is dropped.
    runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    links: Mutex<BTreeMap<(usize, usize), watch::Sender<Rule>>>,
    /// Who runs as which process.
    processes: Mutex<BTreeMap<u32, usize>>,
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// A network without members, in which everything passes.
    ///
    /// # Panics
    /// If threads are not to be had.
    pub fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        Self {
            shared: Arc::default(),
            runtime: runtime.expect("a runtime of one thread"),
        }
    }

    /// Opens the gate of the member at place `to`, which listens at `target`; returns where others
    /// dial it.
    ///
    /// # Panics
    /// If no port is to be had.
    pub fn open_gate(&self, to: usize, target: SocketAddr) -> SocketAddr {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let listener = self.runtime.block_on(TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("gate {address}: {error}"));
        let shared = self.shared.clone();
        self.runtime.spawn(serve_gate(listener, to, target, shared));
        address
    }

    /// Notes that the member at `place` runs as process `pid`.
    pub fn runs_as(&self, place: usize, pid: u32) {
        let mut processes = lock(&self.shared.processes);
        processes.retain(|_, of| *of != place);
        processes.insert(pid, place);
    }

    /// Sets what happens to bytes from `from` to `to`.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        let rule = self.shared.rule(from, to);
        rule.send_modify(|rule| rule.link = link);
    }

    /// Ends the connections between two members in the middle of whatever they carry; new ones pass.
    pub fn cut(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let rule = self.shared.rule(from, to);
            rule.send_modify(|rule| rule.cuts += 1);
        }
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        for rule in lock(&self.shared.links).values() {
            rule.send_modify(|rule| rule.link = Link::Pass);
        }
    }
}

impl Shared {
    fn rule(&self, from: usize, to: usize) -> watch::Sender<Rule> {
        let fresh = || {
            let link = Link::Pass;
            watch::Sender::new(Rule { link, cuts: 0 })
        };
        let mut links = lock(&self.links);
        links.entry((from, to)).or_insert_with(fresh).clone()
    }
}

async fn serve_gate(listener: TcpListener, to: usize, target: SocketAddr, shared: Arc<Shared>) {
    loop {
        // An error concerns one connection that is gone already.
        let Ok((inbound, dialler)) = listener.accept().await else {
            continue;
        };
        let processes = lock(&shared.processes).clone();
        let gate = listener.local_addr().expect("it is bound");
        // A stranger or a process that is gone: there is nobody to talk to.
        let Some(from) = dialler::place_of(dialler.port(), gate.port(), &processes) else {
            continue;
        };
        let there = shared.rule(from, to).subscribe();
        let back = shared.rule(to, from).subscribe();
        tokio::spawn(connection::carry(inbound, target, there, back));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
