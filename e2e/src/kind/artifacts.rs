//! What a cluster can tell about a failure, kept as files in `<cache>/kind/artifacts/<cluster>`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Kind, command};
use crate::tools;

const EXPORT_LIMIT: Duration = Duration::from_secs(120);

/// File names, and what kubectl is asked for them.
const QUESTIONS: [(&str, &[&str]); 4] = [
    ("objects.txt", &["get", "all,pvc,pv", "-A", "-o", "wide"]),
    (
        "events.txt",
        &["get", "events", "-A", "--sort-by=.lastTimestamp"],
    ),
    ("pods.txt", &["describe", "pods", "-A"]),
    ("engram.yaml", &["get", "engram", "-A", "-o", "yaml"]),
];

/// Writes everything that can be had; what cannot is left out, since the test has failed already
/// and a second panic would hide why.
pub fn keep(kind: &Kind) {
    let directory = command::cache().join("artifacts").join(kind.name());
    // The last failure's files would be taken for this one's.
    let _ = fs::remove_dir_all(&directory);
    if let Err(error) = fs::create_dir_all(&directory) {
        eprintln!("no artifacts: {}: {error}", directory.display());
        return;
    }
    for (file, question) in QUESTIONS {
        let asked = std::panic::catch_unwind(|| kind.kubectl(question).text());
        write(&directory.join(file), &asked.unwrap_or_default());
    }
    let _ = std::panic::catch_unwind(|| {
        let mut export = command::program("kind");
        export
            .args(["export", "logs", "--name", kind.name()])
            .arg(directory.join("logs"));
        tools::run(&mut export, EXPORT_LIMIT)
    });
    eprintln!("what the cluster knows is in {}", directory.display());
}

fn write(path: &Path, text: &str) {
    if let Err(error) = fs::write(path, text) {
        eprintln!("{}: {error}", path.display());
    }
}
