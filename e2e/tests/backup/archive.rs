//! The log archive: every revision and every time is restored as it was, under load, on one member and
//! on three whose leader is killed; and what is missing is said.

mod failing;
mod killed;
mod memory;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engram_e2e::client::{self, Client};
use engram_e2e::cluster::{LEADER_LIMIT, Plan};
use engram_e2e::disk::copy_directory;
use engram_e2e::random::Random;
use engram_e2e::server::{Server, Setup};
use engram_e2e::{tools, turn};
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::{KeyValue, event::EventType};
use tempfile::TempDir;

use crate::content::{engramctl, engramctl_fails, engramctl_json, everything, hash, restored};
use crate::object_store::{KEY, S3};

/// How long the archive may take to have what was written: twice its delay, and a busy machine.
const ARCHIVED_LIMIT: Duration = Duration::from_secs(30);
/// What a follower applies later than its leader, at most.
const HEARTBEATS: Duration = Duration::from_millis(500);
/// Between two writes: a time in the middle of it is after the one and before the other.
const PACE: Duration = Duration::from_millis(6);

fn ci_or_full<T>(ci: T, full: T) -> T {
    match std::env::var_os("ENGRAM_ARCHIVE_FULL") {
        Some(_) => full,
        None => ci,
    }
}

/// Every change, in order, as a watcher saw it.
#[derive(Default)]
struct History(Vec<(i64, KeyValue, bool)>);

impl History {
    /// What was there at a revision.
    fn at(&self, revision: i64) -> Vec<KeyValue> {
        let mut keys = BTreeMap::new();
        for (at, kv, is_deleted) in &self.0 {
            if *at > revision {
                break;
            }
            match is_deleted {
                true => keys.remove(&kv.key),
                false => keys.insert(kv.key.clone(), kv.clone()),
            };
        }
        keys.into_values().collect()
    }
}

/// What a writer remembers: a time, and the revision that the store then was at.
struct Written {
    unix_ms: u128,
    revision: i64,
}

fn now_ms() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis()
}

fn rfc3339(unix_ms: u128) -> String {
    // The time as `date` writes it: the tools of the product are what is tested.
    let seconds = format!("@{}.{:03}", unix_ms / 1000, unix_ms % 1000);
    let mut date = tools::command(Path::new("date"));
    let date = date.args(["-u", "-d", &seconds, "+%Y-%m-%dT%H:%M:%S.%3NZ"]);
    tools::must_succeed(date).trim().to_owned()
}

/// Writes, one after the other.
struct Writer {
    random: Random,
    /// Attempts so far: none is made twice, whatever became of it.
    attempts: usize,
    /// Revisions that a compaction leaves.
    keeps: i64,
}

impl Writer {
    fn new(seed: u64) -> Writer {
        Writer {
            random: Random::new(seed),
            attempts: 0,
            keeps: 5,
        }
    }

    /// One whose compactions leave so many revisions.
    fn keeping(seed: u64, keeps: i64) -> Writer {
        Writer {
            keeps,
            ..Writer::new(seed)
        }
    }

    /// A thread that writes to a member, however often that is gone, until it is told to stop; its compactions
    /// leave 200 revisions.
    fn on_its_own(
        seed: u64,
        member: SocketAddr,
        stop: &Arc<AtomicBool>,
    ) -> JoinHandle<Vec<Written>> {
        let stop = stop.clone();
        std::thread::spawn(move || {
            client::runtime().block_on(async {
                let members = [Client::lazy(member)];
                Writer::keeping(seed, 200).until(&members, &stop).await
            })
        })
    }

    /// Writes until it is told to stop.
    async fn until(&mut self, members: &[Client], stop: &AtomicBool) -> Vec<Written> {
        let mut written = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            written.extend(self.write(members, 1).await);
        }
        written
    }

    /// Puts, deletes, transactions of several keys, leases that are granted and revoked with their keys,
    /// and compactions; `writes` of them. Whoever is asked may be gone: another member is.
    async fn write(&mut self, members: &[Client], writes: usize) -> Vec<Written> {
        let mut remembered = Vec::new();
        let mut member = 0;
        while remembered.len() < writes {
            self.attempts += 1;
            let one = one_write(
                &members[member],
                self.attempts,
                self.keeps,
                &mut self.random,
            );
            match one.await {
                Ok(revision) => {
                    tokio::time::sleep(PACE / 2).await;
                    remembered.push(Written {
                        unix_ms: now_ms(),
                        revision,
                    });
                    tokio::time::sleep(PACE / 2).await;
                }
                Err(_) => {
                    member = (member + 1) % members.len();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        remembered
    }
}

async fn one_write(
    member: &Client,
    n: usize,
    keeps: i64,
    random: &mut Random,
) -> Result<i64, tonic::Status> {
    let mut client = member.clone();
    let key = |n: u64| format!("key/{:02}", n % 40);
    let put = |key: String, lease: i64| pb::PutRequest {
        key: key.into_bytes().into(),
        value: format!("{n}-{}", "v".repeat(n % 300)).into_bytes().into(),
        lease,
        ..pb::PutRequest::default()
    };
    match n % 50 {
        10 => {
            let id = i64::try_from(n).expect("small") + 1_000;
            let grant = pb::LeaseGrantRequest { ttl: 7_200, id };
            client.lease.lease_grant(grant).await?;
            let leased = client.kv.put(put(format!("leased/{n}"), id)).await?;
            Ok(client::revision_of(leased.into_inner().header.as_ref()))
        }
        // Of every second one: some stay.
        30 if n % 100 < 50 => {
            let id = i64::try_from(n).expect("small") + 980;
            let revoked = client
                .lease
                .lease_revoke(pb::LeaseRevokeRequest { id })
                .await;
            match revoked {
                Ok(answer) => Ok(client::revision_of(answer.into_inner().header.as_ref())),
                // It was never granted: the member asked was gone.
                Err(status) if status.code() == tonic::Code::NotFound => {
                    client.put(key(1), "instead").await
                }
                Err(status) => Err(status),
            }
        }
        40 => {
            let revision = client.put(key(random.below(40)), "compacted").await?;
            let compaction = pb::CompactionRequest {
                revision: (revision - keeps).max(1),
                physical: false,
            };
            // A second one there is an error, where the first one's answer was lost.
            let _ = client.kv.compact(compaction).await;
            Ok(revision)
        }
        m if m % 5 == 1 => {
            let puts = [key(random.below(40)), format!("other/{}", n % 7)].map(|key| {
                let request = pb::request_op::Request::RequestPut(put(key, 0));
                pb::RequestOp {
                    request: Some(request),
                }
            });
            let txn = pb::TxnRequest {
                success: puts.to_vec(),
                ..pb::TxnRequest::default()
            };
            let answer = client.kv.txn(txn).await?.into_inner();
            Ok(client::revision_of(answer.header.as_ref()))
        }
        m if m % 5 == 3 => Ok(client.delete(key(random.below(40))).await?.0),
        _ => {
            let put = put(key(random.below(40)), 0);
            let answer = client.kv.put(put).await?.into_inner();
            Ok(client::revision_of(answer.header.as_ref()))
        }
    }
}

fn url_of(flag: &str) -> String {
    flag.strip_prefix("--store=").expect("a flag").to_owned()
}

/// A member that archives to an S3 server.
fn archives_to(url: &str) -> Setup {
    let setup = Setup::engram()
        .environment("AWS_ACCESS_KEY_ID", KEY.0)
        .environment("AWS_SECRET_ACCESS_KEY", KEY.1);
    archiving(setup, url)
}

fn archiving(setup: Setup, url: &str) -> Setup {
    let flags = archive_flags(url).into_iter();
    flags.fold(setup, |setup, flag| setup.flag(flag))
}

fn archive_flags(url: &str) -> [String; 4] {
    [
        format!("--archive-url={url}"),
        "--archive-cluster=demo".into(),
        "--archive-max-delay=1s".into(),
        "--archive-segment-bytes=65536".into(),
    ]
}

/// engramctl with a store's flags, and the key of the S3 server that it may be.
struct Ctl(String);

impl Ctl {
    fn run(&self, arguments: &[&str]) -> String {
        let store = format!("--store={}", self.0);
        let mut command = tools::command(&tools::engramctl());
        command
            .env("AWS_ACCESS_KEY_ID", KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", KEY.1)
            .args(["-w", "json"])
            .args(arguments)
            .args([store.as_str(), "--cluster=demo"]);
        tools::must_succeed(&mut command)
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.run(arguments);
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Waits until the archive holds a revision.
    fn must_archive(&self, revision: i64) {
        self.must_hold(revision, |_| true);
    }

    /// The same of the history of a cluster that does not go on where its first one ended.
    fn must_archive_in_a_later_history(&self, revision: i64) {
        self.must_hold(revision, |chain| chain["incarnation"] != "0");
    }

    fn must_hold(&self, revision: i64, is_meant: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + ARCHIVED_LIMIT;
        loop {
            let listed = self.json(&["archive", "list"]);
            let chains = listed.as_array().expect("a list").iter();
            let chains = chains.filter(|chain| is_meant(chain));
            let ends = chains.map(|one| one["toRevision"].as_i64());
            if ends.flatten().max().is_some_and(|end| end >= revision) {
                return;
            }
            assert!(Instant::now() < deadline, "{revision} is not in {listed}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Restores to a moment into a member of its own; its HashKV as the restore says it, and the member.
    fn restored(&self, moment: &str) -> (serde_json::Value, Server) {
        let mut said = serde_json::Value::Null;
        let server = restored(|flags| {
            said = self.json(&[&["restore", moment], flags].concat());
        });
        (said, server)
    }

    fn must_restore(&self, moment: &str, history: &History, allowed: RangeInclusive<i64>) {
        let (said, server) = self.restored(moment);
        let revision = said["plan"]["toRevision"].as_i64().expect("a revision");
        assert!(
            allowed.contains(&revision),
            "{moment}: {said}, and not {allowed:?}"
        );
        let kvs = everything(&server, 0).kvs;
        assert_eq!(kvs, history.at(revision), "{moment}");
        let (hashed, compacted) = hash(&server, 0);
        assert_eq!(said["hashKV"], hashed, "{moment}: {said}");
        assert_eq!(said["compactRevision"], compacted, "{moment}: {said}");
    }
}

/// Restores to random revisions and to random times, and to the end. What a lost leader had not shipped is
/// dated by the next one, which may have applied it `late` afterwards.
fn must_restore_any(
    ctl: &Ctl,
    history: &History,
    written: &[Written],
    from: i64,
    (count, late): (usize, Duration),
) {
    let mut random = Random::new(17);
    let last = history.0.last().expect("changes").0;
    for _ in 0..count {
        let span = u64::try_from(last - from).expect("it grows");
        let revision = from + i64::try_from(random.below(span + 1)).expect("small");
        let moment = format!("--to-revision={revision}");
        ctl.must_restore(&moment, history, revision..=revision);
    }
    let after: Vec<&Written> = written.iter().filter(|one| one.revision >= from).collect();
    for _ in 0..count {
        let one = after[usize::try_from(random.below(after.len() as u64)).expect("small")];
        let moment = format!("--to-time={}", rfc3339(one.unix_ms));
        let is_surely_in = |other: &&&Written| other.unix_ms + late.as_millis() <= one.unix_ms;
        let least = after.iter().rev().find(is_surely_in);
        let least = least.map_or(from, |least| least.revision);
        ctl.must_restore(&moment, history, least..=one.revision);
    }
    ctl.must_restore("--to-end", history, last..=last);
}

/// A directory that an archive lies in, and its URL.
fn directory() -> (TempDir, String) {
    let dir = TempDir::with_prefix("engram-archive-").expect("a temporary directory");
    let url = format!("file://{}", dir.path().display());
    (dir, url)
}

fn backup(ctl: &Ctl, server: &Server) -> i64 {
    let endpoints = format!("--endpoints={}", server.address());
    let made = ctl.json(&[&endpoints, "backup", "create"]);
    made["revision"].as_i64().expect("a revision")
}

#[test]
fn one_member_is_restored_to_any_revision_and_time() {
    let _turn = turn::take("archive, one member");
    let (_dir, url) = directory();
    one_member_to_any_moment(url, ci_or_full(2, 20));
}

#[test]
fn one_member_is_restored_to_any_revision_and_time_in_s3() {
    let _turn = turn::take("archive, one member in S3");
    let s3 = S3::start();
    one_member_to_any_moment(url_of(&s3.store("backups")), ci_or_full(1, 20));
}

/// To so many revisions and times; then it crashes and goes on.
fn one_member_to_any_moment(url: String, moments: usize) {
    let mut server = archives_to(&url).start();
    let ctl = Ctl(url);
    let runtime = client::runtime();
    let mut writer = Writer::new(5);
    ctl.must_archive(1);
    let members = [runtime.block_on(async { Client::lazy(server.address()) })];
    let watching = Watching::begin(server.address());
    let mut written = runtime.block_on(writer.write(&members, ci_or_full(30, 200)));
    let from = backup(&ctl, &server);
    let more = runtime.block_on(writer.write(&members, ci_or_full(170, 1_500)));
    written.extend(more);
    let last = written.last().expect("writes").revision;
    let history = watching.until(last);
    ctl.must_archive(last);
    let (said, same) = ctl.restored("--to-end");
    let (hashed, compacted) = hash(&server, 0);
    assert_eq!(said["hashKV"], hashed, "{said}");
    assert_eq!(said["compactRevision"], compacted, "{said}");
    leases_are_the_same(&runtime, &server, &same);
    drop(same);
    must_restore_any(&ctl, &history, &written, from, (moments, Duration::ZERO));
    // A crash, and a start again: the chain goes on.
    server.kill();
    server.start();
    let more = runtime.block_on(writer.write(&members, 20));
    let last = more.last().expect("writes").revision;
    ctl.must_archive(last);
    let (said, same) = ctl.restored("--to-end");
    assert_eq!(said["plan"]["backupRevision"], from, "no gap: {said}");
    assert_eq!(hash(&server, 0).0, said["hashKV"], "{said}");
    leases_are_the_same(&runtime, &server, &same);
    let metrics = server.metrics();
    assert!(metrics.contains("engram_archive_gaps_total 0"), "{metrics}");
    ctl.run(&["archive", "verify"]);
}

fn leases_are_the_same(runtime: &tokio::runtime::Runtime, before: &Server, after: &Server) {
    let leases = |server: &Server| {
        let address = server.address();
        runtime.block_on(async move {
            let mut client = Client::connect(address).await;
            let listed = client.lease.lease_leases(pb::LeaseLeasesRequest {}).await;
            let listed = listed.expect("leases").into_inner().leases;
            let mut ids: Vec<i64> = listed.iter().map(|lease| lease.id).collect();
            ids.sort_unstable();
            ids
        })
    };
    let was = leases(before);
    assert!(!was.is_empty());
    assert_eq!(was, leases(after));
}

#[test]
fn three_members_are_restored_to_any_revision_and_time_in_s3() {
    let _turn = turn::take("archive, three members");
    let s3 = S3::start();
    three_members_to_any_moment(url_of(&s3.store("backups")), ci_or_full(2, 20));
}

#[test]
fn three_members_are_restored_to_any_revision_and_time() {
    let _turn = turn::take("archive, three members in a directory");
    let (_dir, url) = directory();
    three_members_to_any_moment(url, ci_or_full(1, 20));
}

/// To so many revisions and times. Writes are watched from a member that stays, while the leader is killed.
fn three_members_to_any_moment(url: String, moments: usize) {
    let mut plan = Plan::of(3);
    for flag in archive_flags(&url) {
        plan = plan.flag(flag);
    }
    for place in 0..3 {
        let key = [
            ("AWS_ACCESS_KEY_ID", KEY.0),
            ("AWS_SECRET_ACCESS_KEY", KEY.1),
        ];
        let key = key.map(|(name, value)| (name.to_owned(), value.to_owned()));
        plan = plan.environment_of(place, key.to_vec());
    }
    let mut cluster = plan.start();
    let ctl = Ctl(url);
    ctl.must_archive(1);
    let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
    let stays = (leader + 1) % 3;
    let watching = Watching::begin(cluster.server(stays).address());
    let runtime = client::runtime();
    let addresses = cluster.addresses();
    let members: Vec<Client> =
        runtime.block_on(async { addresses.iter().map(|one| Client::lazy(*one)).collect() });
    let mut writer = Writer::new(7);
    let mut written = runtime.block_on(writer.write(&members, 40));
    let from = backup(&ctl, cluster.server(stays));
    for _ in 0..ci_or_full(1, 5) {
        written.extend(runtime.block_on(writer.write(&members, ci_or_full(60, 300))));
        let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
        if leader == stays {
            cluster.have_lead((stays + 1) % 3);
        }
        let leader = cluster.wait_for_leader(LEADER_LIMIT).place;
        cluster.kill(leader);
        written.extend(runtime.block_on(writer.write(&members, ci_or_full(60, 300))));
        cluster.restart(leader);
    }
    let last = written.last().expect("writes").revision;
    let history = watching.until(last);
    ctl.must_archive(last);
    must_restore_any(&ctl, &history, &written, from, (moments, HEARTBEATS));
    let listed = ctl.json(&["archive", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "no gap: {listed}");
    ctl.run(&["archive", "verify"]);
}

/// A watcher of everything, from the first revision on.
struct Watching {
    told: mpsc::Sender<i64>,
    thread: JoinHandle<History>,
}

/// How long an event may take.
const EVENT_LIMIT: Duration = Duration::from_secs(60);

impl Watching {
    fn begin(address: SocketAddr) -> Watching {
        Watching::from(address, 1)
    }

    fn from(address: SocketAddr, start_revision: i64) -> Watching {
        let (told, last) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            client::runtime().block_on(async move {
                let mut client = Client::connect(address).await;
                let create = pb::WatchCreateRequest {
                    key: vec![0].into(),
                    range_end: vec![0].into(),
                    start_revision,
                    ..pb::WatchCreateRequest::default()
                };
                let stream = client.watch_range(create).await.expect("a watch");
                follow(stream, &last).await
            })
        });
        Watching { told, thread }
    }

    /// What it has seen once it has seen this revision.
    fn until(self, revision: i64) -> History {
        self.told.send(revision).expect("the watcher waits");
        let history = self.thread.join().expect("the watcher ends");
        let last = history.0.last().expect("changes").0;
        assert!(last >= revision, "it ended at {last}, before {revision}");
        history
    }

    /// What it has seen of a member that is gone.
    fn of_the_gone(self) -> History {
        self.thread.join().expect("the watcher ends")
    }
}

/// Takes events until one of the revision that is told has come, or its member is gone.
async fn follow(
    mut stream: tonic::Streaming<pb::WatchResponse>,
    told: &mpsc::Receiver<i64>,
) -> History {
    let mut history = History::default();
    let mut last = i64::MAX;
    let mut asked = None;
    loop {
        let answer = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
        if let Ok(answer) = answer {
            let Ok(Some(answer)) = answer else {
                return history;
            };
            assert!(!answer.canceled, "{answer:?}");
            for event in answer.events {
                let is_deleted = event.r#type() == EventType::Delete;
                let kv = event.kv.expect("an event has a key");
                history.0.push((kv.mod_revision, kv, is_deleted));
            }
        }
        if let Ok(told) = told.try_recv() {
            last = told;
            asked = Some(Instant::now());
        }
        let waits = asked.map_or(Duration::ZERO, |asked| asked.elapsed());
        assert!(waits < EVENT_LIMIT, "revision {last} is not seen");
        if history.0.last().is_some_and(|change| change.0 >= last) {
            return history;
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => left.push(path),
                false if path.extension().is_some_and(|end| end == "segment") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_missing_or_damaged_is_named_and_nothing_is_restored() {
    let _turn = turn::take("archive, damaged");
    let (dir, url) = directory();
    let server = archiving(Setup::engram(), &url).start();
    let ctl = Ctl(url.clone());
    ctl.must_archive(1);
    let runtime = client::runtime();
    let put = |value: &str| {
        runtime.block_on(async {
            let mut client = Client::connect(server.address()).await;
            client.put("key", value).await.expect("a put")
        })
    };
    let store = format!("--store={url}");
    let end = put("0");
    ctl.must_archive(end);
    let plan = |moment: &str| engramctl_fails(&["archive", "plan", &store, moment]);
    let said = plan("--to-end");
    assert!(
        said.contains("no full backup can be gone on from"),
        "{said}"
    );
    let from = backup(&ctl, &server);
    for n in 1..4 {
        let revision = put(&format!("{n}"));
        ctl.must_archive(revision);
    }
    let said = plan("--to-revision=1000");
    assert!(said.contains("revision 1000 is in no part"), "{said}");
    let said = plan("--to-time=2001-01-01T00:00:00Z");
    assert!(
        said.contains("2001-01-01T00:00:00.000Z is in no part"),
        "{said}"
    );
    let mut unreadable = tools::command(&tools::engramctl());
    unreadable.args(["archive", "plan", &store, "--to-time=yesterday"]);
    let said = tools::run(&mut unreadable, tools::TOOL_LIMIT);
    assert!(!said.status.success(), "{}", said.text());
    assert!(
        said.stderr.contains("2026-11-29T14:30:00Z"),
        "{}",
        said.text()
    );
    let planned = engramctl_json(&["archive", "plan", &store, "--to-end"]);
    assert_eq!(planned["backupRevision"], from);
    let all = segments(dir.path());
    let victim = &all[all.len() - 2];
    let name = victim.file_name().expect("a name").to_str().expect("text");
    let whole = fs::read(victim).expect("a segment");
    let target = TempDir::with_prefix("engram-target-").expect("a temporary directory");
    let data = target.path().join("data");
    let into = format!("--data-dir={}", data.display());
    let restore = || engramctl_fails(&["restore", &store, "--to-end", &into]);
    let mut changed = whole.clone();
    *changed.last_mut().expect("bytes") ^= 1;
    fs::write(victim, changed).expect("written");
    let said = restore();
    assert!(said.contains(name) && said.contains("damaged"), "{said}");
    let verify = engramctl_fails(&["archive", "verify", &store]);
    assert!(verify.contains(name), "{verify}");
    fs::remove_file(victim).expect("removed");
    let said = restore();
    assert!(said.contains(name) && said.contains("is missing"), "{said}");
    fs::write(victim, whole).expect("written");
    engramctl(&["restore", &store, "--to-end", &into]);
    let again = engramctl_json(&["restore", &store, "--to-end", &into]);
    assert_eq!(again["restored"], false, "a pod that starts again: {again}");
    for another in ["--to-revision=2", "--backup=latest"] {
        let said = engramctl_fails(&["restore", &store, another, &into]);
        assert!(said.contains("was restored from"), "{another}: {said}");
    }
    // A time is no other's, though both are of one history.
    let into = format!("--data-dir={}", target.path().join("timed").display());
    let span = &planned["archive"];
    let last = format!("--to-time={}", span["toTime"].as_str().expect("a time"));
    engramctl(&["restore", &store, &last, &into]);
    let again = engramctl_json(&["restore", &store, &last, &into]);
    assert_eq!(again["restored"], false, "a pod that starts again: {again}");
    let first = format!("--to-time={}", span["fromTime"].as_str().expect("a time"));
    let said = engramctl_fails(&["restore", &store, &first, &into]);
    assert!(said.contains("was restored from"), "{said}");
}

/// A volume that is put back to an older copy begins another history of the same cluster. What the first one held
/// beyond that copy is no moment of the cluster's any more.
#[test]
fn a_moment_of_the_latest_history_is_not_looked_for_in_an_earlier_one() {
    let _turn = turn::take("archive, two histories");
    let (_dir, url) = directory();
    let mut server = archiving(Setup::engram(), &url).start();
    let ctl = Ctl(url.clone());
    ctl.must_archive(1);
    let runtime = client::runtime();
    let put = |server: &Server, key: &str| {
        runtime.block_on(async {
            let mut client = Client::connect(server.address()).await;
            client.put(key, "value").await.expect("a put")
        })
    };
    put(&server, "both");
    let base = backup(&ctl, &server);
    ctl.must_archive(put(&server, "both"));
    server.terminate();
    let copies = TempDir::with_prefix("engram-copy-").expect("a temporary directory");
    let copy = copies.path().join("data");
    copy_directory(server.data_dir(), &copy);
    server.start();
    let first = (0..5).fold(0, |_, _| put(&server, "first"));
    ctl.must_archive(first);
    server.terminate();
    fs::remove_dir_all(server.data_dir()).expect("removed");
    copy_directory(&copy, server.data_dir());
    server.start();
    let second = (0..3).fold(0, |_, _| put(&server, "second"));
    ctl.must_archive_in_a_later_history(second);
    let store = format!("--store={url}");
    let revision = format!("--to-revision={second}");
    for moment in ["--to-end", &revision] {
        let said = engramctl_fails(&["archive", "plan", &store, "--cluster=demo", moment]);
        assert!(
            said.contains("no full backup can be gone on from"),
            "{said}"
        );
    }
    // Who names a backup of the first history means that one; what both have is in either.
    let backups = ctl.json(&["backup", "list"]);
    let name = format!("--backup={}", backups[0]["id"].as_str().expect("an id"));
    let both = format!("--to-revision={}", base + 1);
    for arguments in [&[revision.as_str(), &name][..], &[both.as_str()]] {
        let planned = ctl.json(&[&["archive", "plan"][..], arguments].concat());
        assert_eq!(planned["backupRevision"], base, "{planned}");
    }
    assert_eq!(backup(&ctl, &server), second);
    let end = put(&server, "second");
    ctl.must_archive_in_a_later_history(end);
    let (said, restored) = ctl.restored("--to-end");
    assert_eq!(said["plan"]["backupRevision"], second, "{said}");
    assert_eq!(
        everything(&restored, 0).kvs,
        everything(&server, 0).kvs,
        "{said}"
    );
}

#[test]
fn a_damaged_segment_costs_what_it_held_and_a_later_backup_goes_on_behind_it() {
    let _turn = turn::take("archive, damaged in the middle");
    let (dir, url) = directory();
    let server = archiving(Setup::engram(), &url).start();
    let ctl = Ctl(url.clone());
    ctl.must_archive(1);
    let runtime = client::runtime();
    let write = |count: usize| {
        let mut last = 0;
        for number in 0..count {
            last = runtime.block_on(async {
                let mut client = Client::connect(server.address()).await;
                client.put("key", format!("{number}")).await.expect("a put")
            });
            ctl.must_archive(last);
        }
        last
    };
    let first = backup(&ctl, &server);
    let middle = write(4);
    let second = backup(&ctl, &server);
    let last = write(4);
    let store = format!("--store={url}");
    let base = |revision: i64| {
        let moment = format!("--to-revision={revision}");
        engramctl_json(&["archive", "plan", &store, &moment])["backupRevision"].clone()
    };
    let all = segments(dir.path());
    for (place, victim) in all.iter().enumerate() {
        let whole = fs::read(victim).expect("a segment");
        fs::write(victim, "nonsense").expect("written");
        let name = victim.file_name().expect("a name").to_str().expect("text");
        let verify = engramctl_fails(&["archive", "verify", &store]);
        assert!(verify.contains(name), "{verify}");
        let listed = engramctl_json(&["archive", "list", &store]);
        let unreadable = listed[0]["unreadable"].as_array().expect("a list").len();
        let is_at_an_end = place == 0 || place == all.len() - 1;
        assert_eq!(unreadable == 1, is_at_an_end, "{listed}");
        // What lies before it begins with the first backup, what lies behind it with the second.
        if place + 3 > all.len() {
            assert_eq!(base(middle), second);
        }
        if place <= 1 {
            assert_eq!(base(last), second);
        }
        if place == all.len() - 1 {
            let said = engramctl_fails(&["archive", "plan", &store, "--to-end"]);
            assert!(said.contains("cannot be told"), "{said}");
        }
        fs::write(victim, whole).expect("written");
    }
    assert_eq!(base(middle - 1), first);
    engramctl(&["archive", "verify", &store]);
}

/// The archive's directory is away for a while: writes go on, nothing is lost, and it is said.
#[test]
fn a_store_that_is_away_holds_up_no_write() {
    let _turn = turn::take("archive, store away");
    let (dir, url) = directory();
    let server = archiving(Setup::engram(), &url).start();
    let ctl = Ctl(url);
    ctl.must_archive(1);
    backup(&ctl, &server);
    let away = dir.path().with_extension("away");
    fs::rename(dir.path(), &away).expect("renamed");
    fs::write(dir.path(), "no directory").expect("written");
    let runtime = client::runtime();
    let mut writer = Writer::new(3);
    let members = [runtime.block_on(async { Client::lazy(server.address()) })];
    let written = runtime.block_on(writer.write(&members, 150));
    let said = || {
        server
            .output()
            .contains("the log archive cannot be written")
    };
    let deadline = Instant::now() + ARCHIVED_LIMIT;
    while !said() {
        assert!(Instant::now() < deadline, "{}", server.output());
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::remove_file(dir.path()).expect("removed");
    fs::rename(&away, dir.path()).expect("renamed");
    ctl.must_archive(written.last().expect("writes").revision);
    let (restored, _same) = ctl.restored("--to-end");
    assert_eq!(restored["hashKV"], hash(&server, 0).0, "{restored}");
    let metrics = server.metrics();
    assert!(metrics.contains("engram_archive_gaps_total 0"), "{metrics}");
}

/// A compaction frees what is not archived, and the only member is killed: it is there still when the store is back.
#[test]
fn a_crash_while_the_store_is_away_makes_no_gap() {
    let _turn = turn::take("archive, crash while the store is away");
    let (dir, url) = directory();
    let mut server = archiving(Setup::engram(), &url).start();
    let ctl = Ctl(url);
    ctl.must_archive(1);
    let from = backup(&ctl, &server);
    let away = dir.path().with_extension("away");
    fs::rename(dir.path(), &away).expect("renamed");
    fs::write(dir.path(), "no directory").expect("written");
    let runtime = client::runtime();
    let watching = Watching::begin(server.address());
    let members = [runtime.block_on(async { Client::lazy(server.address()) })];
    let written = runtime.block_on(Writer::new(11).write(&members, 150));
    let last = written.last().expect("writes").revision;
    let history = watching.until(last);
    runtime.block_on(async {
        let compaction = pb::CompactionRequest {
            revision: last,
            physical: false,
        };
        let mut client = Client::connect(server.address()).await;
        client.kv.compact(compaction).await.expect("a compaction");
    });
    // Twice: what is held at a start is held through it.
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(500));
        server.kill();
        server.start();
    }
    std::thread::sleep(Duration::from_millis(500));
    fs::remove_file(dir.path()).expect("removed");
    fs::rename(&away, dir.path()).expect("renamed");
    ctl.must_archive(last);
    let metrics = server.metrics();
    assert!(metrics.contains("engram_archive_gaps_total 0"), "{metrics}");
    for revision in [from + 1, (from + last) / 2, last] {
        let moment = format!("--to-revision={revision}");
        ctl.must_restore(&moment, &history, revision..=revision);
    }
}
