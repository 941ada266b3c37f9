//! A pod's or Service's port, brought to this machine by `kubectl port-forward`.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use super::{Kind, command};

/// A port on loopback, as long as this value lives.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    address: SocketAddr,
}

impl Kind {
    /// Forwards a free port of this machine to a port of `target` (`pod/NAME`, `service/NAME`).
    ///
    /// # Panics
    /// If kubectl does not say that it forwards.
    pub fn forward(&self, namespace: &str, target: &str, port: u16) -> Forward {
        let mut kubectl = command::program("kubectl");
        kubectl
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["-n", namespace, "port-forward", target])
            .arg(format!(":{port}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        listening(kubectl, "Forwarding from ")
    }

    /// Serves the API server on loopback without TLS, with this cluster's credentials.
    ///
    /// # Panics
    /// If kubectl does not say that it serves.
    pub fn proxy(&self) -> Forward {
        let mut kubectl = command::program("kubectl");
        kubectl
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        listening(kubectl, "Starting to serve on ")
    }
}

/// Starts a kubectl that says where it listens once it does.
fn listening(mut kubectl: std::process::Command, says: &str) -> Forward {
    let child = kubectl.spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{kubectl:?} does not start: {error}"));
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut lines = BufReader::new(stdout);
    let read = lines.read_line(&mut line);
    read.unwrap_or_else(|error| panic!("{kubectl:?} says nothing: {error}"));
    let address = line
        .strip_prefix(says)
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|address| address.parse().ok());
    let Some(address) = address else {
        // Our own child, whatever became of it.
        let _ = child.kill();
        let _ = child.wait();
        panic!("{kubectl:?} does not listen: {line:?}");
    };
    // It says a line for each connection: whoever does not read them holds it up.
    std::thread::spawn(move || lines.lines().for_each(drop));
    Forward { child, address }
}

impl Forward {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Our own child, whatever became of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
