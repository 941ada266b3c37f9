//! The store fails at points that a seed chooses, while writes go on: errors, connections that end, bodies of which
//! a part arrives, answers that are lost, and slowness.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engram_e2e::random::Random;
use engram_e2e::store_gate::StoreGate;
use engram_e2e::{tools, turn};

use super::{
    Ctl, KEY, S3, Watching, Writer, archives_to, backup, ci_or_full, must_restore_any, url_of,
};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn a_store_that_fails_at_random_lists_nothing_half_and_loses_no_revision() {
    let _turn = turn::take("archive, failing store");
    let seed = Random::seed_from("ENGRAM_ARCHIVE_SEED");
    let s3 = S3::start();
    let gate = StoreGate::before(s3.address());
    let sure = Ctl(url_of(&s3.store("backups")));
    let through = Ctl(url_of(&s3.store_at("backups", gate.address())));
    let server = archives_to(&through.0).start();
    sure.must_archive(1);
    let from = backup(&sure, &server);
    let watching = Watching::begin(server.address());
    let stop = Arc::new(AtomicBool::new(false));
    let writing = Writer::on_its_own(seed, server.address(), &stop);
    gate.fail(seed, ci_or_full(12, 50));
    let (mut made, mut number) = (BTreeSet::new(), 0);
    let deadline = Instant::now() + LIMIT;
    while gate.left() > 0 {
        assert!(Instant::now() < deadline, "{} faults are left", gate.left());
        number += 1;
        let name = format!("through-{number}");
        if through.makes(&name, &server.address().to_string()) {
            made.insert(name);
        }
        // What is claimed at this moment is whole.
        sure.run(&["archive", "verify"]);
        let listed = sure.listed();
        assert!(
            made.is_subset(&listed),
            "{made:?} are not all in {listed:?}"
        );
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.join().expect("the writer is told of everything");
    let last = written.last().expect("writes").revision;
    let history = watching.until(last);
    sure.must_archive(last);
    for name in sure.listed() {
        sure.run(&["backup", "verify", &format!("--backup={name}")]);
    }
    let chains = sure.json(&["archive", "list"]);
    assert_eq!(chains.as_array().map(Vec::len), Some(1), "no gap: {chains}");
    let metrics = server.metrics();
    assert!(metrics.contains("engram_archive_gaps_total 0"), "{metrics}");
    let restores = (ci_or_full(2, 10), Duration::ZERO);
    must_restore_any(&sure, &history, &written, from, restores);
    let faults = gate.done();
    println!(
        "{} faults, {} of {number} backups made, {} revisions",
        faults.len(),
        made.len(),
        last
    );
    for (fault, request) in faults {
        println!("{fault:?}: {request}");
    }
}

impl Ctl {
    /// Whether a backup was made.
    fn makes(&self, name: &str, endpoint: &str) -> bool {
        let mut command = tools::command(&tools::engramctl());
        command
            .env("AWS_ACCESS_KEY_ID", KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", KEY.1)
            .args(["backup", "create", "--cluster=demo"])
            .arg(format!("--store={}", self.0))
            .arg(format!("--name={name}"))
            .arg(format!("--endpoints={endpoint}"));
        tools::run(&mut command, LIMIT).status.success()
    }

    /// The backups that there are.
    pub(super) fn listed(&self) -> BTreeSet<String> {
        let listed = self.json(&["backup", "list"]);
        let listed = listed.as_array().expect("a list").iter();
        let ids = listed.map(|one| one["id"].as_str().expect("an ID").to_owned());
        ids.collect()
    }
}
