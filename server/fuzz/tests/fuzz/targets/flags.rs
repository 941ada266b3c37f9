//! Command lines and environments: whatever they say, there is an answer, and a configuration that is within
//! its limits.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::Duration;

use engram_config::{Outcome, flags, parse};

use super::Target;

pub const TARGET: Target = Target {
    name: "flags",
    run,
    seeds,
    cases: 4_000,
};

/// Arguments are lines; those that begin so are variables.
const VARIABLES: [&[u8]; 2] = [b"ETCD_", b"ENGRAM_"];

fn run(bytes: &[u8]) {
    let is_variable = |line: &&[u8]| VARIABLES.iter().any(|start| line.starts_with(start));
    let (variables, arguments): (Vec<&[u8]>, Vec<&[u8]>) =
        bytes.split(|byte| *byte == b'\n').partition(is_variable);
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let arguments: Vec<OsString> = arguments.into_iter().map(text).collect();
    let variables = variables.into_iter().filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        Some((text(&line[..at]), text(&line[at + 1..])))
    });
    let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let variables: Vec<_> = variables.collect();
    let parsed = || {
        parse(
            arguments.iter().cloned(),
            variables.iter().cloned(),
            &no_file,
        )
    };
    let outcome = parsed();
    check(&outcome);
    if let (Outcome::Run { config, .. }, Outcome::Run { config: again, .. }) = (outcome, parsed()) {
        assert_eq!(config, again);
    }
}

/// What comes out can be shown, and what runs is within its limits.
pub fn check(outcome: &Outcome) {
    match outcome {
        Outcome::Print { text, exit_code } => assert!(*exit_code == 0 && text.ends_with('\n')),
        Outcome::Fail(failure) => {
            assert!(matches!(failure.exit_code, 1 | 2));
            assert!(failure.text.is_some() || !failure.notices.is_empty());
        }
        Outcome::Run { config, .. } => {
            assert!(config.raft.heartbeat_interval * 5 <= config.raft.election_timeout);
            assert!(config.raft.election_timeout <= Duration::from_secs(50));
            assert!(config.limits.io_threads.is_none_or(|threads| threads > 0));
            assert!(!config.listen.client.is_empty() && !config.advertise.client.is_empty());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let values = [
        "1",
        "true",
        "5s",
        "http://127.0.0.1:2379",
        "a=http://127.0.0.1:2380",
        "",
    ];
    let each = flags().enumerate().map(|(place, spec)| {
        let value = values[place % values.len()];
        format!("--{}={value}", spec.name)
    });
    let lines = [
        "--name\na\n--data-dir=/x\nETCD_HEARTBEAT_INTERVAL=50",
        "--listen-client-urls=http://[::1]:1,unix:///x\n--advertise-client-urls=http://a:1",
        "ENGRAM_LOG_LEVEL=debug\nETCD_LOG_LEVEL=info\n--",
        "--initial-cluster=a=http://a:1,b=http://b:1\n--name=a\n--initial-advertise-peer-urls=http://a:1",
        "--auto-compaction-mode=periodic\n--auto-compaction-retention=1h30m",
        "--help",
        "--version",
        "gateway",
    ];
    let lines = lines.map(str::to_owned).into_iter();
    each.chain(lines).map(String::into_bytes).collect()
}
