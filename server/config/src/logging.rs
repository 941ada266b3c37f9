//! The flags of the log, turned into the options of [`crate::trace`].

use super::Notice;
use super::golang::{quote, quote_list};
use super::raw::Raw;
use crate::trace::{Format, Level, Options, Output, Rotation};

const DEFAULT: &str = "default";
const JOURNAL: &str = "systemd/journal";
const ONE_FILE: &str =
    "--log-outputs requires a single file path when --log-rotate-config-json is defined";

/// Why the log cannot be set up.
pub(super) enum LogError {
    /// An error that is reported like any other.
    Verify(String),
    /// A level that does not exist, on which etcd panics.
    Level(String),
}

impl From<String> for LogError {
    fn from(message: String) -> Self {
        Self::Verify(message)
    }
}

/// The members of `--log-rotation-config-json`; etcd's reader ignores others.
#[derive(serde::Deserialize)]
#[serde(default)]
struct RotationJson {
    maxsize: u64,
    maxage: u64,
    maxbackups: u64,
    compress: bool,
}

impl Default for RotationJson {
    fn default() -> Self {
        Self {
            maxsize: 100,
            maxage: 0,
            maxbackups: 0,
            compress: false,
        }
    }
}

pub(super) fn log_options(raw: &Raw, notices: &mut Vec<Notice>) -> Result<Options, LogError> {
    match raw.text("logger") {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned().into()),
        other => return Err(format!("unknown logger option {}", quote(other)).into()),
    }
    let names: Vec<&str> = raw.list("log-outputs").iter().map(String::as_str).collect();
    if names.len() > 1 && names.contains(&DEFAULT) {
        return Err(format!(
            "multi logoutput for {} is not supported yet",
            quote(DEFAULT)
        )
        .into());
    }
    let rotation = if raw.bool("enable-log-rotation") {
        Some(rotation(
            &names,
            raw.text("log-rotation-config-json"),
            notices,
        )?)
    } else {
        None
    };
    let journal = names.contains(&JOURNAL);
    if journal && names.len() > 1 {
        let names = quote_list(names);
        return Err(format!(
            "running with systemd/journal but other '--log-outputs' values ({names}) are configured \
             with 'default'; override 'default' value with something else"
        )
        .into());
    }
    if journal {
        let message = "log output systemd/journal is not supported, logging to standard error";
        notices.push(Notice::new(Level::Warn, message));
    }
    let level = raw.text("log-level");
    let level = Level::parse(level)
        .ok_or_else(|| LogError::Level(format!("unrecognized level: {}", quote(level))))?;
    let format = raw.text("log-format");
    let format = Format::parse(format)
        .ok_or_else(|| format!("unknown log format: {format}, supported values json, console"))?;
    let outputs = names.into_iter().map(output).collect::<Result<_, _>>()?;
    Ok(Options {
        level,
        format,
        outputs,
        rotation,
    })
}

fn output(name: &str) -> Result<Output, LogError> {
    match name {
        DEFAULT | JOURNAL | "stderr" => Ok(Output::Stderr),
        "stdout" => Ok(Output::Stdout),
        "" => Err("--log-outputs must not contain an empty output"
            .to_owned()
            .into()),
        file => Ok(Output::File(
            file.strip_prefix("file://").unwrap_or(file).into(),
        )),
    }
}

fn rotation(names: &[&str], json: &str, notices: &mut Vec<Notice>) -> Result<Rotation, String> {
    let files = names
        .iter()
        .filter(|name| !matches!(**name, DEFAULT | "stderr" | "stdout"));
    let files = files.count();
    if files > 1 || (files == 0 && names.len() == 1) {
        return Err(ONE_FILE.to_owned());
    }
    let parsed: RotationJson = serde_json::from_str(json).map_err(|error| {
        let kind = if error.is_data() {
            "invalid"
        } else {
            "improperly formatted"
        };
        format!("{kind} log rotation config: {error}")
    })?;
    if parsed.compress {
        let message = "log rotation does not compress old files";
        notices.push(Notice::new(Level::Warn, message));
    }
    Ok(Rotation {
        size_megabytes_max: parsed.maxsize,
        age_days_max: parsed.maxage,
        backups_max: usize::try_from(parsed.maxbackups).unwrap_or(usize::MAX),
    })
}
