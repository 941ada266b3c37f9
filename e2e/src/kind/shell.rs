//! Images for pods of tests, with a shell: busybox from Debian's package `busybox-static`, so that
//! nothing is pulled for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Kind, command};
use crate::tools;

/// A shell, in a cluster after [`Kind::load_shell`].
pub const SHELL_IMAGE: &str = "localhost/engram-e2e/shell:1";
/// The S3 server versitygw beside a shell, in a cluster after [`Kind::load_s3`].
pub const S3_IMAGE: &str = "localhost/engram-e2e/s3:1";
const BUILD_LIMIT: Duration = Duration::from_secs(60);
/// Where Debian's package puts it, in the node's root file system or in this machine.
const BUSYBOX: [&str; 2] = ["rootfs/bin/busybox", "/bin/busybox"];
const APPLETS: [&str; 15] = [
    "sh", "cat", "dd", "echo", "find", "grep", "head", "hostname", "httpd", "mkdir", "nslookup",
    "seq", "sync", "timeout", "wget",
];

impl Kind {
    /// Brings [`SHELL_IMAGE`] to every node.
    pub fn load_shell(&self) {
        self.load(&archive(SHELL_IMAGE, &[]));
    }

    /// Brings [`S3_IMAGE`] to every node.
    pub fn load_s3(&self) {
        let server = tools::tool("versitygw");
        self.load(&archive(S3_IMAGE, &[(&server, "/bin/versitygw")]));
    }
}

/// Builds an image of a shell and `files`, each with its place in the image.
fn archive(name: &str, files: &[(&Path, &str)]) -> PathBuf {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory can be made");
    std::fs::copy(busybox(), bin.join("busybox")).expect("busybox can be copied");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("a link can be made");
    }
    let out = command::cache().join(format!("{}.tar", name.replace(['/', ':'], "_")));
    let mut build = command::script("../image/oci-archive.py");
    build
        .arg(&out)
        .arg(name)
        .arg(format!("{}:/", directory.path().display()));
    for (file, place) in files {
        build.arg(format!("{}:{place}", file.display()));
    }
    command::succeeded(&mut build, BUILD_LIMIT);
    out
}

fn busybox() -> PathBuf {
    let places = BUSYBOX.map(|place| command::cache().join(Path::new(place)));
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("busybox is not there: apt-get install busybox-static")
}
