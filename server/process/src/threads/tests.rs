use std::future::Future;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::pulse::Pulses;
use super::*;

/// Tells the copy of the test's process what to do.
const DOES: &str = "ENGRAM_TEST_PANICS";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn panics() {
    panic!("the reason\nin two lines");
}

/// What each way of panicking does, in a process of its own.
fn act(what: &str) {
    end_process_on_panic();
    match what {
        "thread" => drop(spawn("engram-test", panics).unwrap().join()),
        // Nobody waits for it, and tokio catches it.
        "task" => runtime().block_on(async {
            drop(tokio::spawn(async { panics() }).await);
        }),
        "endless task" => runtime().block_on(async {
            spawn_endless(async {
                panics();
                unreachable!("it has panicked")
            });
            std::future::pending::<()>().await;
        }),
        // A call on the same thread is another matter: what it starts is not for it alone.
        "started by a call" => runtime().block_on(async {
            let started = ForCaller::new(Box::pin(async {
                spawn_endless(async {
                    tokio::task::yield_now().await;
                    panics();
                    unreachable!("it has panicked")
                });
            }));
            assert_eq!(started.await, Ok(()));
            std::future::pending::<()>().await;
        }),
        "blocking" => runtime().block_on(async {
            drop(spawn_blocking(panics).await);
        }),
        "call" => runtime().block_on(async {
            let call = ForCaller::new(Box::pin(async { panics() }));
            assert_eq!(call.await, Err(Panicked));
        }),
        "call's blocking" => runtime().block_on(async {
            let call = ForCaller::new(Box::pin(async { spawn_blocking(panics).await.is_err() }));
            assert_eq!(call.await, Ok(true));
        }),
        "after a call" => runtime().block_on(async {
            assert_eq!(
                ForCaller::new(Box::pin(async { panics() })).await,
                Err(Panicked)
            );
            panics();
        }),
        other => unreachable!("{other}"),
    }
}

fn run(test: &str, what: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("threads::tests::{test}"), "--nocapture"])
        .env(DOES, what)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_panic_ends_the_process_and_says_why() {
    if let Ok(what) = std::env::var(DOES) {
        return act(&what);
    }
    for what in [
        "thread",
        "task",
        "endless task",
        "started by a call",
        "blocking",
        "after a call",
    ] {
        let ended = run("a_panic_ends_the_process_and_says_why", what);
        assert_eq!(ended.status.code(), Some(134), "{what}: {ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        let lines = said.lines().filter(|line| {
            line.contains("the reason in two lines") && line.contains("stopping: going on")
        });
        assert_eq!(lines.count(), 1, "{what}: {said}");
    }
}

#[test]
fn a_panic_of_a_call_is_that_call_s() {
    if let Ok(what) = std::env::var(DOES) {
        return act(&what);
    }
    for what in ["call", "call's blocking"] {
        let ended = run("a_panic_of_a_call_is_that_call_s", what);
        assert!(ended.status.success(), "{what}: {ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("the reason in two lines"), "{what}: {said}");
    }
}

#[test]
fn a_thread_that_does_not_turn_is_stuck_and_one_that_waits_is_not() {
    let pulses = Pulses::new();
    let pulse = pulses.begin("engram-apply", false);
    pulse.age(STUCK_AFTER);
    assert_eq!(pulses.stuck(), None, "it waits for work");
    pulse.turn();
    assert_eq!(pulses.stuck(), None);
    pulse.age(STUCK_AFTER);
    let stuck = "engram-apply has made no turn for 30 s";
    assert_eq!(pulses.stuck().as_deref(), Some(stuck));
    pulse.turn();
    assert_eq!(pulses.stuck(), None);
    pulse.age(STUCK_AFTER);
    drop(pulse);
    assert_eq!(pulses.stuck(), None, "it has ended");
}

#[tokio::test]
async fn a_task_that_waits_for_others_is_not_stuck_and_one_that_has_work_is() {
    let pulses = Pulses::new();
    let pulse = pulses.begin("the proposer", false);
    let age = || {
        pulse.age(STUCK_AFTER);
        pulses.stuck()
    };
    assert_eq!(pulse.rest(async { age() }).await, None);
    assert_eq!(pulses.stuck(), None, "it has come round");
    let stuck = "the proposer has made no turn for 30 s";
    assert_eq!(age().as_deref(), Some(stuck));
}

#[test]
fn a_wait_for_the_disk_is_said_and_is_not_stuck() {
    let pulses = Pulses::new();
    let leaning = pulses.begin("consensus", true);
    leaning.turn();
    leaning.age(STUCK_AFTER);
    assert!(pulses.stuck().is_some());
    let own = pulses.begin("wal-writer", false);
    pulse::wear(own.clone());
    on_disk(|| {
        own.age(STUCK_AFTER * 2);
        assert_eq!(pulses.stuck(), None);
        assert_eq!(
            pulses.slow_disk(),
            ["wal-writer waits for the disk since 60 s"]
        );
    });
    assert_eq!(pulses.slow_disk(), Vec::<String>::new());
    assert!(
        pulses.stuck().is_some(),
        "the disk has answered, and consensus does not go on"
    );
}

#[test]
fn a_runtime_that_turns_beats() {
    let name = "a runtime of this test";
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = spawn(name, move || {
        turn();
        runtime().block_on(async {
            let beating = tokio::time::timeout(Duration::from_millis(20), beat());
            assert!(beating.await.is_err(), "it beats for ever");
        });
        sender.send(()).unwrap();
    });
    receiver.recv().unwrap();
    thread.unwrap().join().unwrap();
}

/// Whoever starts a thread in another way gives it no pulse; whoever runs blocking work in another
/// way makes a caller's panic the end of the process.
#[test]
fn threads_are_started_here_alone() {
    let here =
        std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it"));
    let server = here.parent().unwrap();
    let mut seen = 0;
    let mut found = Vec::new();
    visit(server, &mut |path, text| {
        seen += 1;
        let is_here = path.starts_with(here.join("src/threads"));
        let is_test = path
            .iter()
            .any(|part| part == "tests" || part == "tests.rs");
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let product = product
            .split("#[cfg(any(test, feature = \"fixtures\"))]\npub mod fixture")
            .next()
            .unwrap();
        let words = [
            "thread::Builder::new",
            "thread::spawn",
            "task::spawn_blocking",
        ];
        for word in words.iter().filter(|word| product.contains(**word)) {
            // The last words' watchdog must work whatever else does not.
            let is_last = path.ends_with("fatal.rs");
            if !is_here && !is_test && !is_last {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    });
    assert!(seen > 100, "all of the server's crates are looked at");
    assert!(found.is_empty(), "{found:#?}");
}

fn visit(dir: &std::path::Path, see: &mut impl FnMut(&std::path::Path, &str)) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            see(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// The types hold what hyper asks of them.
#[expect(dead_code, reason = "compiled, never called")]
fn a_call_s_future_can_be_spawned(call: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
    fn spawnable(_: impl Future<Output = Result<(), Panicked>> + Send + 'static) {}
    spawnable(ForCaller::new(call));
}
