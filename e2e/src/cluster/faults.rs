//! What is done to members and to the network between them.

use std::fs;
use std::process::ExitStatus;
use std::time::Duration;

use super::Cluster;
use crate::ports;
use crate::proxy::Link;

/// As etcd's robustness tests delay.
pub(super) const LATE: Link = Link::Delay {
    mean: Duration::from_millis(75),
    jitter: Duration::from_millis(50),
};

impl Cluster {
    /// Kills a member as a power cut would (SIGKILL).
    pub fn kill(&mut self, place: usize) {
        self.paused.remove(&place);
        self.members[place].server.kill();
    }

    /// Has a member stop by itself (SIGTERM); returns how it ended and how long that took.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn terminate(&mut self, place: usize) -> (ExitStatus, Duration) {
        self.members[place].server.terminate()
    }

    /// Starts a member on what it left and waits until it serves.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn restart(&mut self, place: usize) {
        self.launch(place);
        self.members[place].server.must_become_ready();
    }

    /// Starts a member on what it left, without waiting: it may lack a quorum.
    pub fn relaunch(&mut self, place: usize) {
        self.launch(place);
    }

    /// The same through another command, which is handed program and arguments.
    pub fn relaunch_through(&mut self, place: usize, program: &str, arguments: &[&str]) {
        let server = &mut self.members[place].server;
        server.launch_through(program, arguments);
        let pid = server.pid();
        self.network.runs_as(place, pid);
    }

    /// Starts a member on what it left with one more argument, which it keeps, and waits until it
    /// serves.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn restart_with(&mut self, place: usize, argument: &str) {
        self.members[place].server.add_flag(argument.to_owned());
        self.restart(place);
    }

    /// Has a stopped member listen for its peers at a new address from its next start on, where they
    /// reach it without a gate; returns its URL. Nobody is told.
    ///
    /// # Panics
    /// If it runs.
    pub fn move_away(&mut self, place: usize) -> String {
        let server = &mut self.members[place].server;
        assert!(!server.is_running(), "{} still runs", server.name());
        let url = format!("http://127.0.0.1:{}", ports::free());
        server.add_flag(format!("--listen-peer-urls={url}"));
        server.add_flag(format!("--initial-advertise-peer-urls={url}"));
        let name = server.name().to_owned();
        let others = self
            .members
            .iter()
            .filter(|member| member.server.name() != name);
        let others = others.map(|member| format!("{}={}", member.server.name(), member.peer_url()));
        let mut everybody: Vec<String> = others.collect();
        everybody.push(format!("{name}={url}"));
        self.members[place].initial = Some(("existing", everybody.join(",")));
        url
    }

    /// How a member that is expected to refuse to start ended, and what it said; `None` where it
    /// serves or is still at it after `limit`.
    pub fn refusal(&mut self, place: usize, limit: Duration) -> Option<(ExitStatus, String)> {
        self.launch(place);
        let status = self.ended_within(place, limit)?;
        Some((status, self.server(place).output()))
    }

    /// Waits until a relaunched member serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn must_become_ready(&mut self, place: usize) {
        self.members[place].server.must_become_ready();
    }

    /// Whether the member's process runs (paused counts as running).
    pub fn is_running(&mut self, place: usize) -> bool {
        self.members[place].server.is_running()
    }

    /// How a member's process ended, if it does so by itself within `limit`.
    pub fn ended_within(&mut self, place: usize, limit: Duration) -> Option<ExitStatus> {
        self.members[place].server.ended_within(limit)
    }

    /// Stops a member's clock, so to speak (SIGSTOP).
    pub fn pause(&mut self, place: usize) {
        self.members[place].server.signal(libc::SIGSTOP);
        self.paused.insert(place);
    }

    /// Has a paused member go on where it was (SIGCONT).
    pub fn resume(&mut self, place: usize) {
        self.members[place].server.signal(libc::SIGCONT);
        self.paused.remove(&place);
    }

    /// Removes a stopped member's data directory.
    ///
    /// # Panics
    /// If it runs, or the directory cannot be removed.
    pub fn wipe(&mut self, place: usize) {
        let server = &mut self.members[place].server;
        assert!(!server.is_running(), "{} still runs", server.name());
        fs::remove_dir_all(server.data_dir()).expect("removing a data directory");
    }

    /// Splits the members: bytes pass between two of them only within one of `groups`.
    pub fn split(&self, groups: &[&[usize]]) {
        let group_of = |place| groups.iter().position(|group| group.contains(&place));
        for from in 0..self.size() {
            for to in 0..self.size() {
                let together = group_of(from) == group_of(to);
                let link = if together { Link::Pass } else { Link::Hold };
                self.network.set(from, to, link);
            }
        }
    }

    /// Drops what `from` sends to `to`; what `to` sends to `from` arrives.
    pub fn silence(&self, from: &[usize], to: &[usize]) {
        for from in from {
            for to in to {
                self.network.set(*from, *to, Link::Hold);
            }
        }
    }

    /// Sets what happens to bytes between a member and all others, both ways.
    pub fn set_links(&self, place: usize, link: Link) {
        for other in (0..self.size()).filter(|other| *other != place) {
            self.network.set(place, other, link);
            self.network.set(other, place, link);
        }
    }

    /// Ends every fault of the network.
    pub fn heal(&self) {
        self.network.heal();
    }
}
