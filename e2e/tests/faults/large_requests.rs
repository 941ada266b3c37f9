//! `--max-request-bytes` above what one record of the log holds: large values are carried as etcd
//! carries them, or the flag is refused at the start; no value ends or halts a member.

use std::time::Duration;

use engram_e2e::client::{self, Client};
use engram_e2e::cluster::Plan;
use engram_e2e::server::Setup;

use crate::calls::{self, PATIENCE};
use crate::case;

/// For one large value on a busy machine.
const LARGE_LIMIT: Duration = Duration::from_secs(15);

#[test]
fn a_value_of_17_mb_halts_nobody() {
    let case = case::begin("value of 17 MiB, three members");
    let mut cluster = Plan::of(3).flag("--max-request-bytes=33554432").start();
    let value = vec![b'x'; 17 << 20];
    let mut outcomes = Vec::new();
    for place in 0..3 {
        let written = calls::put(&cluster, place, "big", &value, LARGE_LIMIT);
        outcomes.push(written.map_err(|status| status.to_string()));
        std::thread::sleep(Duration::from_millis(500));
    }
    let running: Vec<bool> = (0..3).map(|place| cluster.is_running(place)).collect();
    let panics: usize = (0..3)
        .map(|place| cluster.server(place).output().matches("panicked").count())
        .sum();
    let after: Vec<bool> = (0..3)
        .map(|place| running[place] && calls::put(&cluster, place, "a", b"2", PATIENCE).is_ok())
        .collect();
    case.saw(format!(
        "puts {outcomes:?}; running {running:?}; {panics} panics; small puts afterwards {after:?}"
    ));
    cluster.must(running == [true; 3] && panics == 0, || {
        format!("{panics} panics")
    });
    cluster.must(after == [true; 3], || "no puts afterwards".to_owned());
    if outcomes.iter().any(Result::is_ok) {
        let read = calls::get_local(&cluster, 0, "big");
        cluster.must(matches!(&read, Ok(Some(bytes)) if *bytes == value), || {
            "the large value was acknowledged and is not there".to_owned()
        });
    }
    for place in 0..3 {
        cluster.kill(place);
    }
    for place in 0..3 {
        cluster.relaunch(place);
    }
    for place in 0..3 {
        cluster.must_become_ready(place);
    }
    cluster.must_hold_the_same();
}

#[test]
fn a_value_of_20_mb_is_carried_or_the_flag_refused() {
    carried_or_refused("value of 20 MB, one member", 20_000_000);
}

#[test]
fn a_value_of_90_mb_is_carried_or_the_flag_refused() {
    carried_or_refused("value of 90 MB, one member", 90_000_000);
}

fn carried_or_refused(name: &'static str, bytes: usize) {
    let case = case::begin(name);
    let mut server = Setup::engram()
        .flag("--max-request-bytes=104857600")
        .prepare();
    server.launch();
    if let Err(status) = server.wait_ready() {
        case.saw(format!("the flag is refused: {}", server.last_line()));
        assert_eq!(status.code(), Some(1), "{}", server.output());
        assert!(
            server.output().contains("max-request-bytes"),
            "{}",
            server.output()
        );
        return;
    }
    let runtime = client::runtime();
    let value = calls::incompressible(bytes);
    let put = |server: &engram_e2e::server::Server| {
        let (address, value) = (server.address(), value.clone());
        runtime.block_on(async move {
            let mut client = Client::connect(address).await;
            client.put("big", value).await
        })
    };
    let written = put(&server);
    let small = server.try_etcdctl(&["put", "a", "b"]);
    case.saw(format!(
        "{written:?}; a small put afterwards: {}",
        small.text().trim()
    ));
    assert!(written.is_ok(), "{written:?}");
    assert!(small.status.success(), "{}", small.text());
    server.kill();
    server.start();
    let read = runtime.block_on(async {
        let mut client = Client::connect(server.address()).await;
        client.get("big", 0).await
    });
    let read = read.expect("a read of the large value");
    assert!(read.kvs[0].value == value, "the large value changed");
}
