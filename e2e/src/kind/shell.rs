//! An image with a shell for pods of tests: busybox from Debian's package `busybox-static`, so that
//! nothing is pulled for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Kind, command};

/// Its name in a cluster, after [`Kind::load_shell`].
pub const SHELL_IMAGE: &str = "localhost/engram-e2e/shell:1";
const BUILD_LIMIT: Duration = Duration::from_secs(60);
/// Where Debian's package puts it, in the node's root file system or in this machine.
const BUSYBOX: [&str; 2] = ["rootfs/bin/busybox", "/bin/busybox"];
const APPLETS: [&str; 11] = [
    "sh", "cat", "echo", "hostname", "httpd", "mkdir", "nslookup", "seq", "sync", "timeout", "wget",
];

impl Kind {
    /// Brings [`SHELL_IMAGE`] to every node.
    pub fn load_shell(&self) {
        self.load(&archive());
    }
}

fn archive() -> PathBuf {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory can be made");
    std::fs::copy(busybox(), bin.join("busybox")).expect("busybox can be copied");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("a link can be made");
    }
    let out = command::cache().join("shell.tar");
    let mut build = command::script("../image/oci-archive.py");
    build
        .arg(&out)
        .arg(SHELL_IMAGE)
        .arg(format!("{}:/", directory.path().display()));
    command::succeeded(&mut build, BUILD_LIMIT);
    out
}

fn busybox() -> PathBuf {
    let places = BUSYBOX.map(|place| command::cache().join(Path::new(place)));
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("busybox is not there: apt-get install busybox-static")
}
