//! Engram's image, made of the binaries under test by `image/build.sh`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command;
use crate::tools;

const BUILD_LIMIT: Duration = Duration::from_secs(180);

/// Who the image's processes are.
#[derive(Debug, Clone, Copy)]
pub enum RunsAs {
    /// User 65532, as the image is published.
    Nonroot,
    /// Root, as kubeadm's static pod wants it: the pod sets no user, and its directory belongs to
    /// root.
    Root,
}

/// Builds the image and returns its archive; the binaries are those beside the server under test.
///
/// # Panics
/// If one is missing.
pub fn engram(name: &str, runs_as: RunsAs) -> PathBuf {
    let server = tools::engram();
    of(server.parent().expect("it is a file"), name, runs_as)
}

/// Builds the image of these binaries and returns its archive.
///
/// # Panics
/// If one is missing.
pub fn of(binaries: &Path, name: &str, runs_as: RunsAs) -> PathBuf {
    let user = match runs_as {
        RunsAs::Nonroot => "65532:65532",
        RunsAs::Root => "0:0",
    };
    let file = format!("{}.tar", name.replace(['/', ':'], "_"));
    let out = command::cache().join(file);
    let mut build = command::script("../image/build.sh");
    build
        .args(["--user", user, "--name", name, "--out"])
        .arg(&out)
        .env("ENGRAM_BINARIES", binaries);
    command::succeeded(&mut build, BUILD_LIMIT);
    out
}
