//! A server process: started, watched, killed, started again in the same directory.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{ports, tools};

/// How long a start may take. Half a second is usual; CI machines are busy.
pub const START_LIMIT: Duration = Duration::from_secs(40);
/// How long a stop may take before the test fails.
pub const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long the metrics may take.
const METRICS_LIMIT: Duration = Duration::from_secs(10);
/// What etcd logs when it serves, and what scripts wait for.
const READY: &str = "ready to serve client requests";

/// How a server is to be started.
pub struct Setup {
    binary: PathBuf,
    name: String,
    data_dir: Option<PathBuf>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    default_flags: bool,
}

impl Setup {
    /// The server under test as member `m1`, with fresh ports and a fresh data directory.
    pub fn engram() -> Self {
        Self::of(tools::engram())
    }

    /// The real etcd, in the same way.
    pub fn etcd() -> Self {
        Self::of(tools::tool("etcd"))
    }

    fn of(binary: PathBuf) -> Self {
        Self {
            binary,
            name: "m1".to_owned(),
            data_dir: None,
            flags: Vec::new(),
            environment: Vec::new(),
            default_flags: true,
        }
    }

    /// The member's name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// A data directory of the caller's, instead of one that goes with the server.
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// One more argument, after the others: of two equal flags the last one counts.
    pub fn flag(mut self, argument: impl Into<String>) -> Self {
        self.flags.push(argument.into());
        self
    }

    /// A variable of the environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// No argument but those of [`Setup::flag`].
    pub fn only_given_flags(mut self) -> Self {
        self.default_flags = false;
        self
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(self) -> Server {
        let mut server = self.prepare();
        server.start();
        server
    }

    /// Chooses ports and directories; nothing runs yet.
    pub fn prepare(self) -> Server {
        let scratch = TempDir::with_prefix("engram-e2e-").expect("a temporary directory");
        let data_dir = self.data_dir.unwrap_or_else(|| scratch.path().join("data"));
        Server {
            binary: self.binary,
            name: self.name,
            flags: self.flags,
            environment: self.environment,
            default_flags: self.default_flags,
            client_port: ports::free(),
            peer_port: ports::free(),
            data_dir,
            starts: 0,
            scratch: Some(scratch),
            child: None,
        }
    }
}

/// One server with its data directory. Dropped, it is killed; its files go, unless the test panics.
pub struct Server {
    binary: PathBuf,
    name: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    default_flags: bool,
    client_port: u16,
    peer_port: u16,
    data_dir: PathBuf,
    /// How often it was launched.
    starts: u32,
    /// Taken only to keep it after a failure.
    scratch: Option<TempDir>,
    child: Option<Child>,
}

impl Server {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.client_port))
    }

    /// The URL of [`Server::address`].
    pub fn client_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The URL of the peer listener.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Where the peer listener is: what a gate of [`crate::proxy`] forwards to.
    pub fn peer_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.peer_port))
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The member's data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory of its write-ahead log: Engram's, or etcd's if etcd is under test.
    pub fn wal_dir(&self) -> PathBuf {
        let own = self.data_dir.join("wal");
        match own.is_dir() {
            true => own,
            false => self.data_dir.join("member/wal"),
        }
    }

    /// A directory for the test's own files, which goes with the server.
    pub fn scratch(&self) -> &Path {
        self.scratch.as_ref().expect("taken only on drop").path()
    }

    /// The process's id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Adds an argument for the next start.
    pub fn add_flag(&mut self, argument: impl Into<String>) {
        self.flags.push(argument.into());
    }

    /// Has the next start serve clients over TLS at the same address, with these arguments more.
    pub fn speak_tls(&mut self, flags: impl IntoIterator<Item = String>) {
        let url = format!("https://{}", self.address());
        self.add_flag(format!("--listen-client-urls={url}"));
        self.add_flag(format!("--advertise-client-urls={url}"));
        flags.into_iter().for_each(|flag| self.add_flag(flag));
    }

    /// Has the next start be of another program, with the same arguments.
    pub fn become_program(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// All arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.default_flags {
            let (client, peer) = (self.client_url(), self.peer_url());
            arguments = vec![
                format!("--name={}", self.name),
                format!("--data-dir={}", self.data_dir.display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}={peer}", self.name),
            ];
        }
        arguments.extend(self.flags.iter().cloned());
        arguments
    }

    /// Starts the process and does not wait for it.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn launch(&mut self) {
        let mut command = tools::command(&self.binary);
        command.args(self.arguments());
        self.launch_as(command);
    }

    /// Starts the process through another command, which is handed program and arguments.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn launch_through(&mut self, program: &str, arguments: &[&str]) {
        let mut command = tools::command(Path::new(program));
        command
            .args(arguments)
            .arg(&self.binary)
            .args(self.arguments());
        self.launch_as(command);
    }

    fn launch_as(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "the server runs already");
        let variables = self.environment.iter().map(|(name, value)| (name, value));
        command.envs(variables);
        self.starts += 1;
        for name in ["stdout", "stderr"] {
            let path = self.scratch().join(name);
            if path.exists() {
                // Every life's output is kept: a failure may have its cause several restarts ago.
                let kept = path.with_extension(format!("{:03}", self.starts - 1));
                fs::rename(&path, kept).expect("renaming an output file");
            }
        }
        let output = |name| {
            let file = fs::File::create(self.scratch().join(name));
            Stdio::from(file.expect("creating an output file"))
        };
        command.stdout(output("stdout")).stderr(output("stderr"));
        die_with_this_thread(&mut command);
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{command:?}: {error}")));
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Panics
    /// If it ends or does not serve in time.
    pub fn start(&mut self) {
        self.launch();
        self.must_become_ready();
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// If it ends or does not serve in time.
    pub fn must_become_ready(&mut self) {
        if let Err(status) = self.wait_ready() {
            panic!(
                "the server ended with {status} instead of serving:\n{}",
                self.last_words()
            );
        }
    }

    /// Waits until it serves, or returns how it ended instead.
    ///
    /// # Panics
    /// If neither happens in time.
    pub fn wait_ready(&mut self) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if self.output().contains(READY) {
                return Ok(());
            }
            if let Some(status) = self.ended_within(Duration::from_millis(3)) {
                return Err(status);
            }
        }
        panic!(
            "the server does not serve after {START_LIMIT:?}:\n{}",
            self.last_words()
        );
    }

    /// How the process ended, if it does so within `limit`.
    pub fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("the server was launched");
        let status = tools::wait(child, limit)?;
        self.child = None;
        Some(status)
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended_within(Duration::ZERO).is_none()
    }

    /// Whether it was started and nobody has seen it end.
    pub fn has_process(&self) -> bool {
        self.child.is_some()
    }

    /// Kills it, as a power cut would if the disk kept what it was told to keep.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// Sends SIGTERM and waits for the end. Returns how it ended and how long that took.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        self.signal(libc::SIGTERM);
        match self.ended_within(STOP_LIMIT) {
            Some(status) => (status, started.elapsed()),
            None => panic!("SIGTERM did not end the server:\n{}", self.last_words()),
        }
    }

    /// Launches a process that is expected to refuse: returns its exit code and what it said.
    ///
    /// # Panics
    /// If it serves, was ended by a signal, or says nothing.
    pub fn must_refuse(&mut self) -> (i32, String) {
        self.launch();
        let Err(status) = self.wait_ready() else {
            panic!(
                "the server serves where it should have refused:\n{}",
                self.last_words()
            );
        };
        let said = self.output();
        assert!(
            status.signal().is_none(),
            "the server was ended by a signal ({status}) instead of refusing:\n{said}"
        );
        let code = status.code().expect("it was not ended by a signal");
        assert_ne!(
            code, 0,
            "a refusal has to be seen in the exit code:\n{said}"
        );
        assert!(
            !said.trim().is_empty(),
            "the server ended with {code} and said nothing"
        );
        (code, said)
    }

    /// What the client listener answers on `/metrics`: Prometheus' text format.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn metrics(&self) -> String {
        let asked = TcpStream::connect(self.address()).and_then(|mut stream| {
            stream.set_read_timeout(Some(METRICS_LIMIT))?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        asked.unwrap_or_else(|error| panic!("no metrics of {}: {error}", self.name))
    }

    /// A metric without labels, if it is there.
    ///
    /// # Panics
    /// If `/metrics` does not answer.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics();
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    }

    /// All that the process of the last start has printed.
    pub fn output(&self) -> String {
        let read = |name| fs::read(self.scratch().join(name)).unwrap_or_default();
        let bytes = [read("stdout"), read("stderr")].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last line of [`Server::output`], at most 300 bytes of it.
    pub fn last_line(&self) -> String {
        let output = self.output();
        let line = output.lines().last().unwrap_or_default();
        String::from_utf8_lossy(&line.as_bytes()[..line.len().min(300)]).into_owned()
    }

    /// The end of [`Server::output`], for messages.
    pub fn last_words(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Runs `etcdctl` against the server.
    pub fn try_etcdctl(&self, arguments: &[&str]) -> tools::Finished {
        tools::run(self.etcdctl_command().args(arguments), tools::TOOL_LIMIT)
    }

    /// Runs `etcdctl` against the server and returns its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        tools::must_succeed(self.etcdctl_command().args(arguments))
    }

    /// Runs `etcdctl -w json` and parses its answer.
    ///
    /// # Panics
    /// If it fails or answers no JSON.
    pub fn etcdctl_json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = tools::must_succeed(self.etcdctl_command().args(["-w", "json"]).args(arguments));
        serde_json::from_str(text.trim())
            .unwrap_or_else(|error| panic!("{arguments:?} answered no JSON ({error}): {text}"))
    }

    /// An `etcdctl` command for this server.
    pub fn etcdctl_command(&self) -> Command {
        let mut command = tools::command(&tools::tool("etcdctl"));
        command.arg(format!("--endpoints={}", self.address()));
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(scratch) = self.scratch.take()
        {
            eprintln!("{}", self.arguments().join(" "));
            eprintln!("kept for inspection: {}", scratch.keep().display());
        }
        self.kill();
    }
}

/// Has the kernel kill the child when the thread that starts it ends, so that a test that is itself
/// killed leaves no server behind.
fn die_with_this_thread(command: &mut Command) {
    let ask = || {
        // SAFETY: one system call with numbers for arguments, allowed between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}

/// Sends a signal to a process that this one started.
///
/// # Panics
/// If there is no such process.
pub fn send_signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("process ids fit");
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "process {pid} cannot be sent signal {signal}");
}
