//! The configuration: etcd's flags, `ETCD_*`/`ENGRAM_*` environment and config file, turned into
//! one immutable, typed [`Config`].
//!
//! The way of a setting: text (argument, variable or YAML scalar) → [`raw`] value, parsed by the
//! kind that its row in [`table`] names → [`validate`](validate::validate) → [`Config`]. Texts of
//! errors are etcd's where etcd has one, because scripts and people search for them.
//!
//! Invariants:
//! - [`parse`] is pure: it reads no environment, no file and no clock but what it is handed, and
//!   writes nothing. No input makes it panic.
//! - The rows of [`table`] are the only place that names a flag's default, kind, unit and limits.
//! - With a config file, other flags and the environment are ignored, as etcd ignores them.
//! - Nothing that was given and has no effect is passed over in silence: see [`Notice`].

#![forbid(unsafe_code)]

mod archive;
mod arguments;
mod auth;
mod bootstrap;
mod compaction;
mod discovery;
mod environment;
mod file;
mod gates;
mod golang;
mod logging;
mod raw;
mod settings;
mod table;
mod text;
mod tls;
mod url;
mod validate;

use engram_process::trace;

use std::ffi::OsString;
use std::io;
use std::path::Path;

pub use bootstrap::BootstrapError;
pub use gates::{FeatureGates, Stage};
pub use settings::{
    Advertise, Archive, AuthToken, AutoCompaction, Cluster, ClusterState, Config, Corruption,
    Discovery, Http, InitialMember, Keepalive, Limits, Listen, MetricsDetail, Raft, TlsFiles,
    TlsPolicy, TlsVersion, Tracing,
};
pub use table::{Effect, FlagSpec, Kind, flags};
pub use text::{
    ENGRAM_VERSION, ETCD_VERSION, GIT_SHA, GO_ARCH, GO_OS, GO_VERSION, cluster_version,
};
pub use url::{Address, ListenUrl, Scheme, UrlError};
pub use validate::initial_cluster;

use crate::trace::Level;
use raw::Raw;

/// Something to tell the operator about the configuration, to be logged once the log is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub level: Level,
    /// The message, etcd's where etcd has one.
    pub message: String,
    /// Key and value of each field, in order.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    fn new(level: Level, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            fields: Vec::new(),
        }
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    /// Writes the notice to the log. Not part of [`parse`], which has no effects.
    pub fn log(&self) {
        use crate::trace::{Record, Site, enabled};
        static SITE: Site = Site::new(file!(), line!());
        if !enabled(self.level) {
            return;
        }
        let mut record = Record::new(self.level, &SITE, SITE.admit_unsampled(), &self.message);
        for (key, value) in &self.fields {
            record.field(key, value);
        }
        record.submit();
    }
}

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Serve. The notices are to be logged first.
    Run {
        /// The configuration.
        config: Box<Config>,
        /// What to log before serving.
        notices: Vec<Notice>,
    },
    /// Print the text on standard output and exit (`--help`, `--version`).
    Print {
        /// The text, complete with its line breaks.
        text: String,
        /// The exit code, 0.
        exit_code: i32,
    },
    /// Report and exit.
    Fail(Failure),
}

/// Why the configuration cannot be used, and how etcd reports such a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The bare error, for people and tests.
    pub message: String,
    /// Text for standard error, complete with its line breaks: errors of the command line's syntax,
    /// which etcd does not log.
    pub text: Option<String>,
    /// Lines to log; the last one says what failed unless `text` does.
    pub notices: Vec<Notice>,
    /// 2 for the command line's syntax (Go's `flag` package), else 1.
    pub exit_code: i32,
}

impl Failure {
    /// An error of the command line's syntax: message and usage on standard error, exit code 2.
    fn usage(message: String) -> Self {
        let text = Some(format!("{message}\n{}\n", text::USAGE));
        Self {
            message,
            text,
            notices: Vec::new(),
            exit_code: 2,
        }
    }

    /// An error that etcd prints rather than logs.
    fn plain(message: String, exit_code: i32) -> Self {
        let text = Some(format!("{message}\n"));
        Self {
            message,
            text,
            notices: Vec::new(),
            exit_code,
        }
    }

    /// An error found after the command line was read: one log line, exit code 1.
    fn verify(message: String) -> Self {
        let notice =
            Notice::new(Level::Warn, "failed to verify flags").with("error", message.clone());
        Self {
            message,
            text: None,
            notices: vec![notice],
            exit_code: 1,
        }
    }
}

/// Arguments beyond this number are refused, so that no input makes start-up slow.
const ARGUMENTS_MAX: usize = 10_000;

/// Reads the configuration.
///
/// `args` are the process's arguments without the program's name, `env` its environment.
/// `read_file` is called at most once, for the config file.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
    read_file: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Outcome {
    let environment = environment::Environment::new(env);
    decide(args, &environment, read_file).unwrap_or_else(Outcome::Fail)
}

fn decide(
    args: impl Iterator<Item = OsString>,
    environment: &environment::Environment,
    read_file: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Outcome, Failure> {
    let args = utf8_arguments(args)?;
    if let Some(command @ ("gateway" | "grpc-proxy")) = args.first().map(String::as_str) {
        let message = format!("{command:?} is not part of Engram: run it with etcd's own binary");
        return Err(Failure::plain(message, 1));
    }
    let mut raw = Raw::new();
    let stray = match arguments::parse_arguments(&mut raw, &args)? {
        arguments::Parsed::Help => {
            return Ok(Outcome::Print {
                text: text::help(),
                exit_code: 0,
            });
        }
        arguments::Parsed::Flags { stray } => stray,
    };
    if let Some(stray) = stray {
        let message = format!("{} is not a valid flag", golang::quote(&stray));
        return Err(Failure::verify(message));
    }
    if raw.bool("version") {
        return Ok(Outcome::Print {
            text: text::version(),
            exit_code: 0,
        });
    }
    let (raw, mut notices) = complete(raw, environment, read_file)?;
    let validated = validate::validate(&raw, &mut notices);
    match validated {
        Ok(config) => Ok(Outcome::Run {
            config: Box::new(config),
            notices,
        }),
        Err(mut failure) => {
            notices.append(&mut failure.notices);
            Err(Failure { notices, ..failure })
        }
    }
}

/// Adds what the config file says, or else what the environment says.
fn complete(
    mut raw: Raw,
    environment: &environment::Environment,
    read_file: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<(Raw, Vec<Notice>), Failure> {
    let mut notices = Vec::new();
    let path = match raw.text("config-file") {
        "" => environment.config_file().unwrap_or_default().to_owned(),
        path => path.to_owned(),
    };
    if path.is_empty() {
        environment.apply(&mut raw, &mut notices)?;
        validate::apply_command_line_rules(&mut raw, &mut notices)?;
        return Ok((raw, notices));
    }
    let raw = file::load(&path, read_file, &mut notices)?;
    let loaded = "loaded server configuration, other configuration command line flags and \
                  environment variables will be ignored if provided";
    notices.push(Notice::new(Level::Info, loaded).with("path", path));
    Ok((raw, notices))
}

fn utf8_arguments(args: impl Iterator<Item = OsString>) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for argument in args {
        if texts.len() == ARGUMENTS_MAX {
            return Err(Failure::usage(format!(
                "more than {ARGUMENTS_MAX} arguments"
            )));
        }
        let text = argument
            .into_string()
            .map_err(|argument| Failure::usage(format!("argument is not UTF-8: {argument:?}")))?;
        texts.push(text);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests;
