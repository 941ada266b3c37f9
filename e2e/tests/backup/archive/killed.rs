//! Who uploads is killed at random points: the member that archives, and engramctl.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::random::Random;
use engram_e2e::server::Setup;
use engram_e2e::{tools, turn};

use super::{
    Ctl, History, KEY, S3, Watching, Writer, archives_to, backup, ci_or_full, must_restore_any,
    url_of,
};
use crate::content::{fill, must_equal, restored};

/// What was applied when a member was killed is dated by its next start.
const LATE: Duration = Duration::from_secs(5);

#[test]
fn a_member_that_is_killed_at_random_archives_every_revision_once() {
    let _turn = turn::take("archive, killed member");
    let seed = Random::seed_from("ENGRAM_ARCHIVE_SEED");
    let mut random = Random::new(seed);
    let s3 = S3::start();
    let ctl = Ctl(url_of(&s3.store("backups")));
    let mut server = archives_to(&ctl.0).start();
    ctl.must_archive(1);
    let from = backup(&ctl, &server);
    let mut watching = Watching::begin(server.address());
    let stop = Arc::new(AtomicBool::new(false));
    let writing = Writer::on_its_own(seed, server.address(), &stop);
    let mut history = History::default();
    for _ in 0..ci_or_full(8, 50) {
        thread::sleep(Duration::from_millis(20 + random.below(1_500)));
        server.kill();
        history.0.extend(watching.of_the_gone().0);
        // What is claimed at this moment is whole.
        ctl.run(&["archive", "verify"]);
        server.start();
        let next = history.0.last().map_or(1, |change| change.0 + 1);
        watching = Watching::from(server.address(), next);
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.join().expect("the writer is told of everything");
    let last = written.last().expect("writes").revision;
    // Nothing may have been written since the last start.
    if history.0.last().is_none_or(|change| change.0 < last) {
        history.0.extend(watching.until(last).0);
    }
    ctl.must_archive(last);
    let chains = ctl.json(&["archive", "list"]);
    assert_eq!(chains.as_array().map(Vec::len), Some(1), "no gap: {chains}");
    let verified = ctl.run(&["archive", "verify"]);
    println!("{last} revisions; {}", verified.trim());
    must_restore_any(&ctl, &history, &written, from, (ci_or_full(2, 10), LATE));
}

#[test]
fn a_backup_whose_maker_is_killed_is_listed_whole_or_not_at_all() {
    let _turn = turn::take("backup, killed maker");
    let mut random = Random::new(Random::seed_from("ENGRAM_ARCHIVE_SEED"));
    let s3 = S3::start();
    let server = Setup::engram().start();
    let revision = fill(&server);
    let ctl = Ctl(url_of(&s3.store("backups")));
    let create = |name: &str| {
        let mut command = Command::new(tools::engramctl());
        command
            .env("AWS_ACCESS_KEY_ID", KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", KEY.1)
            .args(["backup", "create", "--cluster=demo", "--or-existing"])
            .arg(format!("--store={}", ctl.0))
            .arg(format!("--name={name}"))
            .arg(format!("--endpoints={}", server.address()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let began = Instant::now();
    assert!(create("whole").status().expect("it runs").success());
    let whole = u64::try_from(began.elapsed().as_micros()).expect("not that long");
    let points = ci_or_full(12, 50);
    for number in 0..points {
        let mut maker = create(&format!("killed-{number}"))
            .spawn()
            .expect("it runs");
        thread::sleep(Duration::from_micros(random.below(whole + whole / 10)));
        // It may have come to its end.
        maker.kill().expect("our own child can be killed");
        maker.wait().expect("our own child can be waited for");
    }
    let listed = ctl.listed();
    assert!(listed.contains("whole"), "{listed:?}");
    for name in &listed {
        ctl.run(&["backup", "verify", &format!("--backup={name}")]);
    }
    println!("{} of {points} were made before the end", listed.len() - 1);
    // Each is made by whoever tries it again.
    for number in 0..points {
        let again = create(&format!("killed-{number}")).status();
        assert!(again.expect("it runs").success(), "killed-{number}");
    }
    assert_eq!(ctl.listed().len(), points + 1);
    let last = format!("--backup=killed-{}", points - 1);
    let same = restored(|flags| {
        ctl.run(&[&["restore", &last], flags].concat());
    });
    must_equal(&server, &same, revision);
}
