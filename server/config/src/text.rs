//! What `--version` and `--help` print.

use std::fmt::Write as _;

use super::gates::FeatureGates;
use super::table::{Effect, Kind, Section, flags};

/// The version of etcd whose behaviour is offered: what clients and scripts see.
pub const ETCD_VERSION: &str = "3.7.3";

/// The version of a cluster whose members are of this release: "3.7.3" speaks "3.7.0".
pub fn cluster_version() -> String {
    let minor = ETCD_VERSION.rsplit_once('.');
    format!("{}.0", minor.map_or(ETCD_VERSION, |(minor, _)| minor))
}

/// The version of Engram.
pub const ENGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit this was built from if the build said so in `ENGRAM_GIT_SHA`, else the version.
pub const GIT_SHA: &str = match option_env!("ENGRAM_GIT_SHA") {
    Some(sha) => sha,
    None => concat!("engram-", env!("CARGO_PKG_VERSION")),
};

/// What stands where a Go process tells its Go's version.
pub const GO_VERSION: &str = concat!("none (Engram ", env!("CARGO_PKG_VERSION"), ", Rust)");

/// The operating system, as Go names it.
pub const GO_OS: &str = if cfg!(target_os = "macos") {
    "darwin"
} else {
    std::env::consts::OS
};

/// The processor, as Go names it.
pub const GO_ARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// The short help, which also follows an error of the command line's syntax.
pub(super) const USAGE: &str = "\
Usage:

  engram [flags]
    Start a server that speaks etcd's v3 API.

  engram --version
    Print the version.

  engram -h | --help
    Print every flag.

  engram --config-file <path>
    Read everything from a YAML or JSON file; other flags and the environment are ignored.

A flag --some-flag can also be given as ENGRAM_SOME_FLAG or ETCD_SOME_FLAG in the environment.
";

/// Four lines in the shape of etcd's, which scripts take apart.
pub(super) fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\n\
         Git SHA: {GIT_SHA}\n\
         Go Version: {GO_VERSION}\n\
         Go OS/Arch: {GO_OS}/{GO_ARCH}\n"
    )
}

/// The short help and every flag with its default.
pub(super) fn help() -> String {
    let mut help = USAGE.to_owned();
    for (section, title) in Section::SHOWN {
        let _ = writeln!(help, "\n{title}:");
        for spec in flags().filter(|spec| spec.section() == section) {
            let unit = match spec.unit {
                "" => String::new(),
                unit => format!(" ({unit})"),
            };
            let _ = writeln!(help, "  --{} '{}'{unit}", spec.name, spec.default);
            let effect = match spec.effect {
                Effect::Used => "",
                Effect::None => " Accepted, has no effect in Engram.",
            };
            let _ = writeln!(help, "    {}{effect}", spec.about);
            if spec.kind == Kind::Gates {
                FeatureGates::describe_known().for_each(|gate| {
                    let _ = writeln!(help, "    {gate}");
                });
            }
        }
    }
    help
}
