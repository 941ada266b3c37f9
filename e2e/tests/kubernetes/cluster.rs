//! A control plane without nodes: the datastore under test, and the real kube-apiserver and
//! kube-controller-manager, started with the flags that kubeadm gives them.
//!
//! What differs from kubeadm, since there is no cluster around it: everything listens on
//! 127.0.0.1, the datastore is spoken to without TLS, the apiserver signs its own certificate, and
//! the administrator has a token instead of a client certificate.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use engram_e2e::ports;
use engram_e2e::server::{Server, Setup};
use engram_e2e::tools::{self, engram as tool_under_test, tool};
use serde_json::json;
use tempfile::TempDir;

use crate::api::Api;
use crate::process::{Program, cpu_seconds, wait_for};

/// The apiserver needs about ten seconds on two idle cores.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Kubernetes' own programs. Dropping it ends them and removes their files, or keeps the files where
/// the test failed.
pub struct ControlPlane {
    // Clients first: they are ended first.
    proxy: Program,
    controllers: Program,
    apiserver: Program,
    ports: Ports,
    files: Files,
}

/// A control plane on one member.
pub struct Cluster {
    // The client first: it is ended first.
    plane: ControlPlane,
    datastore: Server,
    /// CPU seconds of the datastore's processes that were killed.
    datastore_before: f64,
}

struct Ports {
    apiserver: u16,
    controllers: u16,
    proxy: u16,
}

struct Files {
    dir: TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the logs stay in {}", self.dir.path().display());
        }
    }
}

impl ControlPlane {
    /// Starts everything on the datastore that `etcd_flags` of the apiserver name, and waits until
    /// the apiserver says that it is ready.
    pub fn start(etcd_flags: &[String]) -> ControlPlane {
        let files = Files {
            dir: TempDir::new().expect("make a directory"),
        };
        let ports = Ports {
            apiserver: ports::free(),
            controllers: ports::free(),
            proxy: ports::free(),
        };
        let token = write_credentials(&files);
        let mut apiserver = start_apiserver(&files, &ports, etcd_flags);
        wait_for("the apiserver's certificate", START_LIMIT, || {
            apiserver.must_run();
            files.path("pki/apiserver.key").exists().then_some(())
        });
        write_kubeconfig(&files, &ports, &token);
        let mut command = Command::new(tool("kubectl"));
        command.arg("--kubeconfig").arg(files.path("kubeconfig"));
        command.args(["proxy", "--port", &ports.proxy.to_string()]);
        let proxy = Program::start("kubectl proxy", &mut command, files.log("proxy"));
        wait_ready(&mut apiserver, Api { port: ports.proxy });
        let controllers = start_controllers(&files, &ports);
        ControlPlane {
            proxy,
            controllers,
            apiserver,
            ports,
            files,
        }
    }

    /// The apiserver's API.
    pub fn api(&self) -> Api {
        Api {
            port: self.ports.proxy,
        }
    }

    /// Starts the controller manager again where it gave up its lock and left, as a kubelet
    /// would. Returns whether it had to.
    pub fn revive_controllers(&mut self) -> bool {
        if self.controllers.ended().is_none() {
            return false;
        }
        self.controllers = start_controllers(&self.files, &self.ports);
        true
    }

    /// Runs kubectl with `input`, and returns what it prints.
    pub fn kubectl(&self, args: &[&str], input: &str) -> String {
        let mut command = Command::new(tool("kubectl"));
        command.env("HOME", self.files.dir.path()); // its discovery cache goes there
        command
            .arg("--kubeconfig")
            .arg(self.files.path("kubeconfig"))
            .args(args);
        output(&mut command, input)
    }

    /// Fails the test if a program has ended that should run.
    pub fn must_run(&mut self) {
        self.proxy.must_run();
        self.apiserver.must_run();
    }
}

impl Cluster {
    /// Makes the operator's kinds.
    pub fn create_kinds(&self) {
        let crds = tools::directory().join("../manifests/crds");
        self.kubectl(&["create", "-f", &crds.display().to_string()], "");
    }

    /// The operator before the apiserver, which tells of itself at this port.
    pub fn operator(&self, port: u16) -> Command {
        let mut command = Command::new(tools::engramctl().with_file_name("engram-operator"));
        command.env("KUBECONFIG", self.kubeconfig());
        command.args(["run", "--leader-election=false", "--image=engram:1"]);
        command.arg(format!("--listen=127.0.0.1:{port}"));
        command
    }

    /// How the administrator reaches the apiserver.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.files.path("kubeconfig")
    }

    /// Where a program's output goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.plane.files.log(name)
    }

    /// Starts everything, and waits until the apiserver says that it is ready.
    pub fn start() -> Cluster {
        Cluster::start_on(Setup::engram())
    }

    /// The same, on another datastore.
    pub fn start_on(datastore: Setup) -> Cluster {
        let datastore = datastore.start();
        let servers = format!("--etcd-servers={}", datastore.client_url());
        Cluster {
            plane: ControlPlane::start(&[servers]),
            datastore,
            datastore_before: 0.0,
        }
    }

    /// The apiserver's API.
    pub fn api(&self) -> Api {
        self.plane.api()
    }

    /// Ends the controller manager, for good.
    pub fn stop_controllers(&mut self) {
        self.plane.controllers.kill();
    }

    /// Kills the datastore as a power failure of its process would.
    pub fn kill_datastore(&mut self) {
        assert!(
            self.datastore.is_running(),
            "{}",
            self.datastore.last_words()
        );
        self.datastore_before += cpu_seconds(self.datastore.pid());
        self.datastore.kill();
    }

    /// Has the next start of the datastore be engram's, with the same flags.
    pub fn move_to_engram(&mut self) {
        self.datastore.become_program(tool_under_test());
    }

    /// Starts the datastore on what it left, and waits until it serves.
    pub fn restart_datastore(&mut self) {
        self.datastore.start();
    }

    /// [`ControlPlane::revive_controllers`].
    pub fn revive_controllers(&mut self) -> bool {
        self.plane.revive_controllers()
    }

    /// Runs kubectl with `input`, and returns what it prints.
    pub fn kubectl(&self, args: &[&str], input: &str) -> String {
        self.plane.kubectl(args, input)
    }

    /// Every key below `prefix` in the datastore, as etcdctl sees them.
    pub fn stored_keys(&self, prefix: &str) -> Vec<String> {
        let keys = self
            .datastore
            .etcdctl(&["get", prefix, "--prefix", "--keys-only"]);
        keys.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// CPU seconds of datastore, apiserver and controller manager.
    pub fn cpu_seconds(&self) -> [f64; 3] {
        let datastore = self.datastore_before + cpu_seconds(self.datastore.pid());
        [
            datastore,
            self.plane.apiserver.cpu_seconds(),
            self.plane.controllers.cpu_seconds(),
        ]
    }

    /// Fails the test if a program has ended that should run.
    pub fn must_run(&mut self) {
        self.plane.must_run();
        assert!(
            self.datastore.is_running(),
            "{}",
            self.datastore.last_words()
        );
    }
}

fn wait_ready(program: &mut Program, api: Api) {
    wait_for("/readyz", START_LIMIT, || {
        program.must_run();
        api.answers("/readyz").then_some(())
    });
}

fn start_apiserver(files: &Files, ports: &Ports, etcd_flags: &[String]) -> Program {
    let mut command = Command::new(tool("kube-apiserver"));
    command.args(etcd_flags);
    command.args([
        "--bind-address=127.0.0.1",
        &format!("--secure-port={}", ports.apiserver),
    ]);
    // Only written into the Endpoints of the service "kubernetes", which may not name loopback.
    command.arg("--advertise-address=192.0.2.1");
    command.arg(option("cert-dir", &files.path("pki")));
    command.arg(option("token-auth-file", &files.path("tokens.csv")));
    command.arg(option(
        "service-account-key-file",
        &files.path("service-account.pub"),
    ));
    command.arg(option(
        "service-account-signing-key-file",
        &files.path("service-account.key"),
    ));
    command.args([
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true",
        "--allow-privileged=true",
    ]);
    Program::start("kube-apiserver", &mut command, files.log("apiserver"))
}

fn start_controllers(files: &Files, ports: &Ports) -> Program {
    let mut command = Command::new(tool("kube-controller-manager"));
    command.arg(option("kubeconfig", &files.path("kubeconfig")));
    command.args([
        "--bind-address=127.0.0.1",
        &format!("--secure-port={}", ports.controllers),
    ]);
    command.arg(option("cert-dir", &files.path("pki-controllers")));
    command.arg(option("root-ca-file", &files.path("pki/apiserver.crt")));
    command.arg(option(
        "service-account-private-key-file",
        &files.path("service-account.key"),
    ));
    command.args([
        "--use-service-account-credentials=true",
        "--controllers=*,bootstrapsigner,tokencleaner",
        "--leader-elect=true",
    ]);
    Program::start(
        "kube-controller-manager",
        &mut command,
        files.log("controllers"),
    )
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// Makes the key pair of the service accounts and the administrator's token, and returns it.
fn write_credentials(files: &Files) -> String {
    let openssl = |args: &[&str]| output(Command::new("openssl").args(args), "");
    let key = openssl(&["genrsa", "2048"]);
    fs::write(files.path("service-account.key"), &key).expect("write the key");
    let public = output(Command::new("openssl").args(["rsa", "-pubout"]), &key);
    fs::write(files.path("service-account.pub"), public).expect("write the public key");
    let token = openssl(&["rand", "-hex", "16"]).trim().to_owned();
    let line = format!("{token},admin,admin,system:masters\n");
    fs::write(files.path("tokens.csv"), line).expect("write the tokens");
    token
}

fn write_kubeconfig(files: &Files, ports: &Ports, token: &str) {
    let cluster = json!({
        "server": format!("https://127.0.0.1:{}", ports.apiserver),
        "certificate-authority": files.path("pki/apiserver.crt"),
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": "admin", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "admin" } }],
        "current-context": "test",
    });
    fs::write(files.path("kubeconfig"), config.to_string()).expect("write the kubeconfig");
}

/// Runs a program to its end with `input`, which has to be a success, and returns its output.
fn output(command: &mut Command, input: &str) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{program} does not start: {e}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin
        .write_all(input.as_bytes())
        .expect("write a program's input");
    drop(stdin);
    let output = child.wait_with_output().expect("wait for a program");
    let (printed, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{command:?}: {}: {complaint}",
        output.status
    );
    printed.into_owned()
}
