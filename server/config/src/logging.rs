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
    if names.contains(&JOURNAL) && names.len() > 1 {
        let names = quote_list(names);
        return Err(format!(
            "running with systemd/journal but other '--log-outputs' values ({names}) are configured \
             with 'default'; override 'default' value with something else"
        )
        .into());
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
        DEFAULT | "stderr" => Ok(Output::Stderr),
        "stdout" => Ok(Output::Stdout),
        JOURNAL => Ok(Output::Journal),
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
    let parsed: serde_json::Value = serde_json::from_str(json)
        .map_err(|error| format!("improperly formatted log rotation config: {error}"))?;
    let invalid = |why: String| format!("invalid log rotation config: {why}");
    let members = parsed
        .as_object()
        .ok_or_else(|| invalid(format!("{parsed} is no object")))?;
    let mut rotation = Rotation::default();
    // etcd's reader takes names in any case, ignores those it does not know, and null.
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let number = || {
            let number = value.as_i64();
            number.ok_or_else(|| invalid(format!("{name} is {value}, which is no number")))
        };
        let switch = || {
            let switch = value.as_bool();
            switch.ok_or_else(|| invalid(format!("{name} is {value}, neither true nor false")))
        };
        match name.to_ascii_lowercase().as_str() {
            "maxsize" => {
                let megabytes = u64::try_from(number()?);
                rotation.size_megabytes_max =
                    megabytes.map_err(|_| invalid(format!("{name} is {value}, below nothing")))?;
            }
            // Below nothing there is no limit.
            "maxage" => rotation.age_days_max = u64::try_from(number()?).unwrap_or(0),
            "maxbackups" => rotation.backups_max = usize::try_from(number()?).unwrap_or(0),
            "compress" => rotation.compressed = switch()?,
            "localtime" if switch()? => {
                let message = "the names of rotated logs have the time in UTC";
                notices.push(Notice::new(Level::Warn, message));
            }
            _ => {}
        }
    }
    Ok(rotation)
}
