//! How it stops, what it says of itself, and where it takes its settings from.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use std::{fs, thread};

use engram_e2e::client::{self, Client};
use engram_e2e::kind::wait_for;
use engram_e2e::ports;
use engram_e2e::server::{STOP_LIMIT, Server, Setup, send_signal};
use engram_e2e::{tools, turn};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const WRITERS: usize = 8;
const GRACEFUL_LIMIT: Duration = Duration::from_millis(1_500);
/// Writes of one writer: more than it gets done before the stop.
const WRITES_MAX: usize = 1_000_000;

#[test]
fn sigterm_under_writes_ends_it_soon_by_the_signal_and_loses_nothing() {
    let _turn = turn::take("graceful stop");
    let mut server = Setup::engram().start();
    let runtime = client::runtime();
    let writers = Writers::begin(&runtime, &server);
    thread::sleep(Duration::from_millis(400));
    let (status, took) = server.terminate();
    let counts = writers.end(&runtime);
    println!(
        "graceful stop: {took:?}, {} writes before",
        counts.iter().sum::<usize>()
    );
    assert!(took < GRACEFUL_LIMIT, "stopping took {took:?}");
    assert_eq!(
        status.signal(),
        Some(libc::SIGTERM),
        "{status}\n{}",
        server.last_words()
    );
    server.start();
    runtime.block_on(all_are_there(&server, &counts));
}

#[test]
fn as_the_first_process_of_a_container_it_ends_with_success() {
    let _turn = turn::take("process 1");
    let mut server = Setup::engram().prepare();
    server.launch_through("unshare", &["--pid", "--fork", "--kill-child"]);
    server.must_become_ready();
    let inner = only_child_of(server.pid());
    send_signal(inner, libc::SIGTERM);
    let status = server.ended_within(Duration::from_secs(10));
    let status = status.unwrap_or_else(|| panic!("it goes on:\n{}", server.last_words()));
    assert_eq!(status, ExitStatus::from_raw(0), "{}", server.last_words());
}

#[test]
fn as_the_first_process_of_a_container_it_ends_while_it_starts() {
    let _turn = turn::take("process 1, starting");
    // It waits for another one that never comes.
    let other = ports::free();
    let mut server = Setup::engram().prepare();
    let (name, own) = (server.name().to_owned(), server.peer_url());
    server.add_flag(format!(
        "--initial-cluster={name}={own},m2=http://127.0.0.1:{other}"
    ));
    server.launch_through("unshare", &["--pid", "--fork", "--kill-child"]);
    wait_for("it starts", STOP_LIMIT, || {
        server.output().contains("starting").then_some(())
    });
    let inner = only_child_of(server.pid());
    send_signal(inner, libc::SIGTERM);
    let status = server.ended_within(GRACEFUL_LIMIT);
    let status = status.unwrap_or_else(|| panic!("it goes on:\n{}", server.last_words()));
    // Go's, where nobody hears the signal yet.
    assert_eq!(status.code(), Some(2), "{}", server.last_words());
}

#[test]
fn engramctl_ends_as_the_first_process_of_a_container() {
    let _turn = turn::take("process 1, engramctl");
    let server = Setup::engram().start();
    for line in ["watch key", "lock a", "elect --listen a"] {
        let mut command = tools::command(Path::new("unshare"));
        command.args(["--pid", "--fork", "--kill-child"]);
        command.arg(tools::engramctl());
        command.arg(format!("--endpoints={}", server.address()));
        let mut child = command.args(line.split(' ')).spawn().expect("it starts");
        let inner = wait_for("it runs", STOP_LIMIT, || child_of(child.id()));
        // Long enough to be at work, which no line says.
        thread::sleep(Duration::from_millis(300));
        send_signal(inner, libc::SIGTERM);
        let ended = tools::wait(&mut child, GRACEFUL_LIMIT);
        assert!(ended.is_some(), "{line}: it goes on");
    }
}

fn only_child_of(pid: u32) -> u32 {
    child_of(pid).expect("the process has one child")
}

fn child_of(pid: u32) -> Option<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).expect("the process runs");
    children.trim().parse().ok()
}

/// Tasks that write until the server is gone, each its own keys in order.
struct Writers {
    tasks: Vec<JoinHandle<usize>>,
}

impl Writers {
    fn begin(runtime: &Runtime, server: &Server) -> Self {
        let address = server.address();
        let task = |writer| {
            runtime.spawn(async move {
                let mut client = Client::connect(address).await;
                for count in 0..WRITES_MAX {
                    let key = format!("{writer}/{count}");
                    if client.put(key.clone(), key).await.is_err() {
                        return count;
                    }
                }
                WRITES_MAX
            })
        };
        Self {
            tasks: (0..WRITERS).map(task).collect(),
        }
    }

    /// How many writes of each writer were acknowledged.
    fn end(self, runtime: &Runtime) -> Vec<usize> {
        let count =
            |task: JoinHandle<usize>| runtime.block_on(task).expect("a writer does not panic");
        self.tasks.into_iter().map(count).collect()
    }
}

async fn all_are_there(server: &Server, counts: &[usize]) {
    let mut client = Client::connect(server.address()).await;
    let everything = client.everything().await.expect("a served read");
    let keys: std::collections::HashSet<&[u8]> =
        everything.kvs.iter().map(|kv| &kv.key[..]).collect();
    for (writer, count) in counts.iter().enumerate() {
        assert!(*count > 0, "writer {writer} wrote nothing");
        for index in 0..*count {
            let key = format!("{writer}/{index}");
            assert!(
                keys.contains(key.as_bytes()),
                "{key} was acknowledged and is lost"
            );
        }
    }
}

#[test]
fn sigquit_tells_what_the_threads_do_and_ends_it() {
    let _turn = turn::take("SIGQUIT");
    let mut server = Setup::engram().start();
    // It serves a moment before it says so, and hears signals in between.
    let began = Instant::now();
    while !server.output().contains("now serving peer/client/metrics") {
        assert!(began.elapsed() < STOP_LIMIT, "{}", server.output());
        thread::sleep(Duration::from_millis(5));
    }
    server.signal(libc::SIGQUIT);
    let ended = server.ended_within(STOP_LIMIT).expect("SIGQUIT ends it");
    assert_eq!(ended.code(), Some(2));
    let output = server.output();
    assert!(output.contains("SIGQUIT: quit\n"), "{output}");
    assert!(output.matches("\nthread ").count() > 5, "{output}");
}

#[test]
fn the_version_is_told_in_etcds_four_lines() {
    let _turn = turn::take("version");
    let said = tools::must_succeed(tools::command(&tools::engram()).arg("--version"));
    let lines: Vec<&str> = said.lines().collect();
    let starts = [
        "etcd Version: 3.7.",
        "Git SHA: ",
        "Go Version: ",
        "Go OS/Arch: linux/",
    ];
    assert_eq!(lines.len(), starts.len(), "{said}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{said}");
    }
}

#[test]
fn every_line_of_the_log_is_json_with_etcds_fields() {
    let _turn = turn::take("log");
    let mut server = Setup::engram().start();
    server.etcdctl(&["put", "foo", "bar"]);
    server.terminate();
    let output = server.output();
    assert!(output.lines().count() > 3, "{output}");
    for line in output.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("a line of the log is no JSON ({error}): {line}"));
        for field in ["level", "ts", "caller", "msg"] {
            assert!(parsed[field].is_string(), "no {field} in {line}");
        }
        // The one exception is etcd's own, and its test suite makes it too.
        let known = parsed["msg"] == "setting up serving from embedded etcd failed.";
        assert!(
            known || parsed["level"] != "error",
            "an error in a normal life: {line}"
        );
    }
}

#[test]
fn settings_come_from_the_environment() {
    let _turn = turn::take("environment");
    let (client, peer) = (ports::free(), ports::free());
    let (client, peer) = (
        format!("127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let client_url = format!("http://{client}");
    let setup = Setup::engram()
        .only_given_flags()
        .environment("ETCD_NAME", "from-environment");
    let mut server = setup
        .environment("ETCD_LISTEN_CLIENT_URLS", &client_url)
        .environment("ETCD_ADVERTISE_CLIENT_URLS", &client_url)
        .environment("ETCD_LISTEN_PEER_URLS", &peer)
        .environment("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer)
        .environment("ETCD_INITIAL_CLUSTER", &format!("from-environment={peer}"))
        .environment("ETCD_QUOTA_BACKEND_BYTES", "123456789")
        .environment("ETCD_NOBODY_KNOWS_THIS", "1")
        .prepare();
    server.add_flag(format!("--data-dir={}", server.data_dir().display()));
    server.start();
    name_and_quota_are(&client, "from-environment", 123_456_789);
}

#[test]
fn settings_come_from_a_config_file_and_then_from_nowhere_else() {
    let _turn = turn::take("config file");
    let (client, peer) = (ports::free(), ports::free());
    let (client, peer) = (
        format!("127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let setup = Setup::engram().only_given_flags().flag("--name=ignored");
    let mut server = setup.environment("ETCD_QUOTA_BACKEND_BYTES", "5").prepare();
    let path = server.scratch().join("engram.yaml");
    let data_dir = server.data_dir().display();
    let text = format!(
        "name: from-file\ndata-dir: {data_dir}\nlisten-client-urls: http://{client}\n\
         advertise-client-urls: http://{client}\nlisten-peer-urls: {peer}\n\
         initial-advertise-peer-urls: {peer}\ninitial-cluster: from-file={peer}\n\
         quota-backend-bytes: 234567890\n"
    );
    fs::write(&path, text).expect("writing the config file");
    server.add_flag(format!("--config-file={}", path.display()));
    server.start();
    name_and_quota_are(&client, "from-file", 234_567_890);
}

/// Asks the server at `address`, whose address the harness did not choose.
fn name_and_quota_are(address: &str, name: &str, quota: i64) {
    let ask = |arguments: &[&str]| -> serde_json::Value {
        let mut command = tools::command(&tools::tool("etcdctl"));
        command
            .args(["-w", "json", "--endpoints", address])
            .args(arguments);
        serde_json::from_str(&tools::must_succeed(&mut command)).expect("etcdctl writes JSON")
    };
    assert_eq!(ask(&["member", "list"])["members"][0]["name"], name);
    assert_eq!(
        ask(&["endpoint", "status"])[0]["Status"]["dbSizeQuota"],
        quota
    );
}
