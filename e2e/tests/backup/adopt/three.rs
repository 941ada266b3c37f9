//! Three members of one etcd cluster, adopted wherever each of them stopped.

use std::time::{Duration, Instant};

use engram_e2e::client::{self, Client};
use engram_e2e::server::{Server, Setup};
use engram_e2e::{leased, tools, turn};

use super::{ALL_IN_THE_LOG, identity, refuses};
use crate::content::{everything, hash, must_have_the_lease};

/// How long three members may take to elect another leader.
const ELECTED_LIMIT: Duration = Duration::from_secs(20);

/// Three members of one cluster, of whatever program.
pub struct Three {
    pub members: Vec<Server>,
}

impl Three {
    /// A cluster of etcd's.
    pub fn start(flags: &[&str]) -> Three {
        let names = ["m1", "m2", "m3"];
        let mut members: Vec<Server> = names
            .iter()
            .map(|name| Setup::etcd().name(name).prepare())
            .collect();
        let urls: Vec<String> = members
            .iter()
            .map(|member| format!("{}={}", member.name(), member.peer_url()))
            .collect();
        for member in &mut members {
            member.add_flag(format!("--initial-cluster={}", urls.join(",")));
            flags.iter().for_each(|flag| member.add_flag(*flag));
            member.launch();
        }
        members.iter_mut().for_each(Server::must_become_ready);
        Three { members }
    }

    fn put_at(&self, place: usize, keys: std::ops::Range<u64>) {
        client::runtime().block_on(async {
            let mut client = Client::connect(self.members[place].address()).await;
            for n in keys {
                let deadline = Instant::now() + ELECTED_LIMIT;
                // Without a leader an etcd refuses; the same put again is the same key.
                while let Err(refused) = client.put(format!("n/{n:04}"), n.to_string()).await {
                    assert!(Instant::now() < deadline, "{refused}");
                }
            }
        });
    }

    /// Has these members run engram, in this order, and waits until all serve.
    pub fn adopt(&mut self, places: &[usize]) {
        for place in places {
            self.members[*place].become_program(tools::engram());
            self.members[*place].launch();
        }
        for place in places {
            self.members[*place].must_become_ready();
        }
    }

    /// All three hold the keys up to `count`, and are one cluster with one history.
    fn must_hold(&self, count: u64) {
        let mut hashes = Vec::new();
        for member in &self.members {
            let read = everything(member, 0);
            let keys = read
                .kvs
                .iter()
                .filter(|kv| kv.key.starts_with(b"n/"))
                .count();
            assert_eq!(u64::try_from(keys), Ok(count), "at {}", member.name());
            hashes.push(hash(member, read.header.expect("a header").revision));
        }
        hashes.dedup();
        assert_eq!(hashes.len(), 1, "{hashes:?}");
    }
}

#[test]
fn three_members_killed_at_different_moments_become_one_cluster_with_all_that_was_acknowledged() {
    let _turn = turn::take("three");
    for order in [[0, 1, 2], [2, 1, 0]] {
        let mut three = Three::start(&[ALL_IN_THE_LOG]);
        let who = identity(&three.members[0]);
        client::runtime().block_on(async {
            let mut client = Client::connect(three.members[1].address()).await;
            leased::write(&mut client).await;
        });
        three.put_at(0, 0..50);
        // The third lags; the first two go on, then stop with different ends.
        three.members[2].kill();
        three.put_at(0, 50..120);
        three.members[1].kill();
        std::thread::sleep(Duration::from_millis(20));
        three.members[0].kill();
        three.adopt(&order);
        three.must_hold(120);
        let now = identity(&three.members[0]);
        assert_eq!(now["members"], who["members"]);
        assert_eq!(now["header"]["cluster_id"], who["header"]["cluster_id"]);
        for member in &three.members {
            must_have_the_lease(member);
        }
        three.put_at(2, 120..130);
        three.must_hold(130);
    }
}

#[test]
fn the_one_of_two_that_knows_more_wins_and_the_third_comes_later() {
    let _turn = turn::take("two of three");
    let mut three = Three::start(&[]);
    three.put_at(0, 0..20);
    three.members[0].kill();
    // Only the second and the third have these.
    three.put_at(1, 20..60);
    three.members[2].kill();
    three.members[1].terminate();
    three.adopt(&[0, 1]);
    three.put_at(0, 60..70);
    three.adopt(&[2]);
    three.must_hold(70);
    three.members.iter_mut().for_each(Server::kill);
    for member in &mut three.members {
        member.launch();
    }
    three.members.iter_mut().for_each(Server::must_become_ready);
    three.must_hold(70);
}

#[test]
fn a_member_is_not_adopted_while_others_run_etcd() {
    let _turn = turn::take("mixed");
    let mut three = Three::start(&[]);
    three.put_at(0, 0..5);
    three.members[2].terminate();
    three.members[2].become_program(tools::engram());
    refuses(&mut three.members[2], "still runs etcd at");
    three.members[2].become_program(tools::tool("etcd"));
    three.members[2].start();
    three.put_at(2, 5..10);
    for member in &mut three.members {
        member.terminate();
    }
    three.adopt(&[0, 1, 2]);
    three.must_hold(10);
}
