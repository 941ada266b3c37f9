//! Files that are logged to, beside a real etcd's: their modes, how they are rotated, and what the console's form is.
//! The log goes to standard error, too: by that a test knows that a server serves.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use engram_e2e::server::{Server, Setup};
use engram_e2e::turn;

/// How long compressing may take.
const PATIENCE: Duration = Duration::from_secs(10);
const MEGABYTE: usize = 1 << 20;

/// A directory with a log that is full, old ones of it, and a file that is none.
fn filled(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let log = directory.join("x.log");
    fs::write(&log, vec![b'o'; MEGABYTE]).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).unwrap();
    for name in [
        "x-2020-01-02T03-04-05.678.log",
        "x-2020-01-02T03-04-05.679.log.gz",
        "x-2099-01-02T03-04-05.678.log",
        "x-notes.log",
    ] {
        fs::write(directory.join(name), "old").unwrap();
    }
}

/// What lies there: times without their digits, and of each file the mode and whether it is compressed.
fn listed(directory: &Path) -> BTreeMap<String, (u32, bool)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let this_year = |name: String| match name.contains("-20")
        && !name.contains("-2020")
        && !name.contains("-2099")
    {
        true => name.replace(|c: char| c.is_ascii_digit(), "_"),
        false => name,
    };
    entries
        .map(|entry| {
            let mut first = [0; 2];
            let mut file = fs::File::open(entry.path()).unwrap();
            let _ = file.read_exact(&mut first);
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            let name = this_year(entry.file_name().into_string().unwrap());
            (name, (mode, first == [0x1f, 0x8b]))
        })
        .collect()
}

/// What is left of a full log once somebody has logged to it.
fn rotated(setup: Setup, rotation: &str, wanted: &str) -> BTreeMap<String, (u32, bool)> {
    let mut server = setup.prepare();
    let logs = server.scratch().join("logs");
    filled(&logs);
    server.add_flag("--enable-log-rotation");
    server.add_flag(format!(
        "--log-outputs=stderr,{}",
        logs.join("x.log").display()
    ));
    server.add_flag(format!("--log-rotation-config-json={rotation}"));
    server.start();
    let began = Instant::now();
    loop {
        let left = listed(&logs);
        if left.keys().any(|name| name.ends_with(wanted)) || began.elapsed() > PATIENCE {
            // Deleting and compressing go on for a moment.
            thread::sleep(Duration::from_millis(500));
            return listed(&logs);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn full_logs_are_set_aside_kept_and_compressed_as_etcds() {
    let _turn = turn::take("files of the log");
    for (rotation, wanted) in [
        (r#"{"maxsize":1}"#, ".___.log"),
        (r#"{"maxsize":1,"maxbackups":2}"#, ".___.log"),
        (
            r#"{"MaxSize":1,"MAXAGE":5,"maxbackups":-1,"compress":null}"#,
            ".___.log",
        ),
        (r#"{"maxsize":1,"compress":true}"#, ".___.log.gz"),
        (
            r#"{"maxsize":1,"maxage":5,"maxbackups":9,"compress":true,"more":1}"#,
            ".___.log.gz",
        ),
    ] {
        let theirs = rotated(Setup::etcd(), rotation, wanted);
        assert!(
            theirs.keys().any(|name| name.ends_with(wanted)),
            "{rotation}: {theirs:?}"
        );
        assert_eq!(
            theirs,
            rotated(Setup::engram(), rotation, wanted),
            "{rotation}"
        );
    }
}

/// What this process, and whatever it starts, takes from the modes of its files.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(line.expect("Linux says it").trim(), 8).unwrap()
}

#[test]
fn a_log_has_the_mode_that_etcds_has() {
    let _turn = turn::take("modes of the log");
    // Without rotation whoever the umask allows may read it; with it its owner, in directories that are made.
    for (flags, mode) in [(&[][..], 0o666), (&["--enable-log-rotation"][..], 0o600)] {
        for setup in [Setup::etcd(), Setup::engram()] {
            let mut server = setup.prepare();
            let log = match flags.is_empty() {
                true => server.scratch().join("x.log"),
                false => server.scratch().join("not/yet/x.log"),
            };
            server.add_flag(format!("--log-outputs=stderr,{}", log.display()));
            for flag in flags {
                server.add_flag(*flag);
            }
            server.start();
            let made = fs::metadata(&log).unwrap().permissions().mode() & 0o777;
            assert_eq!(made, mode & !umask(), "{flags:?} {}", server.last_words());
        }
    }
}

/// A line of the console's form: its level, its message, its fields.
fn console_line(server: &Server, message: &str) -> Vec<String> {
    let output = server.output();
    let line = output.lines().find(|line| line.contains(message));
    let line = line.unwrap_or_else(|| panic!("{message}: {output}"));
    let columns: Vec<&str> = line.split('\t').collect();
    // Not when, and not where in the source.
    [&columns[1..2], &columns[3..]]
        .concat()
        .iter()
        .map(|it| (*it).to_owned())
        .collect()
}

#[test]
fn the_console_form_is_etcds_to_the_space() {
    let _turn = turn::take("the console");
    let lines = |setup: Setup| {
        let server = setup.flag("--log-format=console").start();
        let urls = |line: Vec<String>| {
            let port = |url: String| url.replace(|c: char| c.is_ascii_digit(), "_");
            line.into_iter().map(port).collect::<Vec<_>>()
        };
        let all = [
            "ready to serve client requests",
            "configuring client listeners",
            "published local member",
        ];
        all.map(|message| urls(console_line(&server, message)))
    };
    let (theirs, ours) = (lines(Setup::etcd()), lines(Setup::engram()));
    assert_eq!(theirs[..2], ours[..2]);
    let attributes = |line: &[String]| {
        let (_, behind) = line[2].split_once("\"local-member-attributes\": ").unwrap();
        behind.split('}').next().unwrap().to_owned()
    };
    assert_eq!(attributes(&theirs[2]), attributes(&ours[2]));
}
