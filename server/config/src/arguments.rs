//! Go's rules for command lines (its `flag` package), as far as etcd's flags depend on them. Only behaviour is
//! shared with Go; the texts of errors are Go's on purpose.

use super::Failure;
use super::golang::quote;
use super::raw::Raw;
use super::table::{self, Kind};

/// What a command line asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// `-h` or `--help`.
    Help,
    /// Flags were stored; `stray` is the first argument that is none.
    Flags { stray: Option<String> },
}

/// Go's `flag` package: `-x` and `--x` are the same, `--x=v` and `--x v` as well, a boolean takes
/// its value only after `=`, and parsing ends at `--` or at the first argument that is no flag.
pub(super) fn parse_arguments(raw: &mut Raw, args: &[String]) -> Result<Parsed, Failure> {
    let mut position = 0;
    while let Some(argument) = args.get(position) {
        if argument.len() < 2 || !argument.starts_with('-') {
            return Ok(Parsed::Flags {
                stray: Some(argument.clone()),
            });
        }
        position += 1;
        if argument == "--" {
            return Ok(Parsed::Flags {
                stray: args.get(position).cloned(),
            });
        }
        let (name, value) = split_flag(argument)?;
        let Some(spec) = table::find(name) else {
            if matches!(name, "help" | "h") {
                return Ok(Parsed::Help);
            }
            return Err(Failure::usage(format!(
                "flag provided but not defined: -{name}"
            )));
        };
        if matches!(spec.kind, Kind::Bool | Kind::Ignored) {
            set_boolean(raw, spec.name, value)?;
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => {
                let next = args
                    .get(position)
                    .ok_or_else(|| Failure::usage(format!("flag needs an argument: -{name}")))?;
                position += 1;
                next
            }
        };
        raw.set(spec.name, value).map_err(|reason| {
            Failure::usage(format!(
                "invalid value {} for flag -{name}: {reason}",
                quote(value)
            ))
        })?;
    }
    Ok(Parsed::Flags { stray: None })
}

fn set_boolean(raw: &mut Raw, name: &'static str, value: Option<&str>) -> Result<(), Failure> {
    let text = value.unwrap_or("true");
    raw.set(name, text).map_err(|reason| {
        Failure::usage(format!(
            "invalid boolean value {} for -{name}: {reason}",
            quote(text)
        ))
    })
}

/// `-name`, `--name` or either with `=value`. The name is at least one byte and the `=` of
/// `-=x` belongs to no name.
fn split_flag(argument: &str) -> Result<(&str, Option<&str>), Failure> {
    let body = argument
        .strip_prefix("--")
        .or_else(|| argument.strip_prefix('-'));
    let body = body.unwrap_or(argument);
    if body.is_empty() || body.starts_with(['-', '=']) {
        return Err(Failure::usage(format!("bad flag syntax: {argument}")));
    }
    match body.split_once('=') {
        Some((name, value)) => Ok((name, Some(value))),
        None => Ok((body, None)),
    }
}
