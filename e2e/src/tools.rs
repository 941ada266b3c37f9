//! The programs: where they are, and running one to its end.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command-line tool may take. They answer within a second; the rest is a busy machine.
pub const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// Both outputs, for searching and for messages.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The server under test.
///
/// # Panics
/// If it is not there; the message says how to build it.
pub fn engram() -> PathBuf {
    let path = match std::env::var_os("ENGRAM_BIN") {
        Some(path) => PathBuf::from(path),
        None => cache().join("target/release/engram"),
    };
    assert!(
        path.is_file(),
        "the server {} is not there: `make build` builds it, ENGRAM_BIN names another",
        path.display()
    );
    path
}

/// The command-line tool under test: beside the server, unless `ENGRAMCTL_BIN` names another.
///
/// # Panics
/// If it is not there; the message says how to build it.
pub fn engramctl() -> PathBuf {
    let path = match std::env::var_os("ENGRAMCTL_BIN") {
        Some(path) => PathBuf::from(path),
        None => engram().with_file_name("engramctl"),
    };
    assert!(
        path.is_file(),
        "{} is not there: `make build` builds it, ENGRAMCTL_BIN names another",
        path.display()
    );
    path
}

/// A program of `e2e/tools`.
///
/// # Panics
/// If it is not there; the message says how to build it.
pub fn tool(name: &str) -> PathBuf {
    let directory = match std::env::var_os("ENGRAM_TOOLS_BIN") {
        Some(path) => PathBuf::from(path),
        None => cache().join("tools/bin"),
    };
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is not there: `e2e/tools/build.sh etcd programs` builds it, ENGRAM_TOOLS_BIN names \
         another directory",
        path.display()
    );
    path
}

/// Whether the server under test is the real etcd: some promises of Engram are not etcd's.
pub fn engram_is_etcd() -> bool {
    let same_file = |path: PathBuf| path.canonicalize().ok();
    same_file(engram()) == same_file(tool("etcd"))
}

/// The directory `e2e` of the clone. Cargo says it when tests run: clones share what is built, and what
/// another one has built knows that one's place.
pub fn directory() -> PathBuf {
    let said = std::env::var_os("CARGO_MANIFEST_DIR");
    PathBuf::from(said.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()))
}

/// Where everything that is built is kept.
pub fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("ENGRAM_CACHE") {
        return PathBuf::from(cache);
    }
    let home =
        std::env::var_os("HOME").expect("HOME is not set: set ENGRAM_BIN and ENGRAM_TOOLS_BIN");
    Path::new(&home).join(".cache/engram")
}

/// A command that inherits no setting of etcd, Engram or an object store from the environment.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["ETCD", "ENGRAM_", "AWS_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started, or is not done after `limit` (it is killed then).
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    let started = Instant::now();
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let stdout = collect(child.stdout.take().expect("stdout is piped"));
    let stderr = collect(child.stderr.take().expect("stderr is piped"));
    let status = wait(&mut child, limit);
    if status.is_none() {
        child
            .kill()
            .expect("the child is there until it is waited for");
    }
    let ended = child
        .wait()
        .expect("the child is there until it is waited for");
    let finished = Finished {
        status: ended,
        stdout: stdout.join().expect("reading a pipe does not panic"),
        stderr: stderr.join().expect("reading a pipe does not panic"),
        took: started.elapsed(),
    };
    assert!(
        status.is_some(),
        "{command:?} was not done after {limit:?}; it said: {}",
        finished.text()
    );
    finished
}

/// Waits for the end of a process; `None` if it still runs after `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        let status = child
            .try_wait()
            .expect("the child is there until it is waited for");
        if status.is_some() || Instant::now() >= deadline {
            return status;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Reads all that a process prints, while it prints it.
pub(crate) fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error ends the output as its end does; what was read before counts.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs `etcdutl`.
///
/// # Panics
/// If it fails.
pub fn etcdutl(arguments: &[&str]) -> String {
    must_succeed(command(&tool("etcdutl")).args(arguments))
}

/// Runs a command that has to succeed and returns its standard output.
///
/// # Panics
/// If it fails.
pub fn must_succeed(command: &mut Command) -> String {
    let finished = run(command, TOOL_LIMIT);
    assert!(
        finished.status.success(),
        "{command:?} failed ({}): {}",
        finished.status,
        finished.text()
    );
    finished.stdout
}

/// What etcdctl says of a lease of `seconds` that was granted a moment ago (at most 30 s), without the moments: what
/// is left of it is another at each look.
pub fn whole_lease(text: &str, seconds: u32) -> String {
    (seconds.saturating_sub(30)..seconds).fold(text.to_owned(), |text, left| {
        text.replace(
            &format!("remaining({left}s)"),
            &format!("remaining({seconds}s)"),
        )
    })
}
