//! The programs and scripts that make and ask a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::tools;

/// Where the kind environment keeps what it builds, and its kubeconfigs.
pub fn cache() -> PathBuf {
    tools::cache().join("kind")
}

/// A script below `e2e`. Unlike [`program`] it keeps the environment: the scripts are set by it.
pub fn script(path: &str) -> Command {
    let mut command = Command::new(tools::directory().join(path));
    command.stdin(std::process::Stdio::null());
    command
}

/// A program that the environment has built, or else one on the PATH.
pub fn program(name: &str) -> Command {
    let built = [
        cache().join("bin").join(name),
        tools::cache().join("tools/bin").join(name),
    ];
    let found = built.iter().find(|path| path.is_file());
    tools::command(found.map_or(Path::new(name), PathBuf::as_path))
}

/// Runs a command that has to succeed and returns its standard output.
///
/// # Panics
/// If it fails, or is not done after `limit`.
pub fn succeeded(command: &mut Command, limit: Duration) -> String {
    let finished = tools::run(command, limit);
    assert!(
        finished.status.success(),
        "{command:?} failed: {}",
        finished.text()
    );
    finished.stdout
}
