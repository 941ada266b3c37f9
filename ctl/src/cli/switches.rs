//! Flags as Go's flag packages take them: those that are true or false, and their variables.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};

/// Lets every switch of a command and of those below it take a value behind `=` (`--prefix=false`),
/// and the last one count where a flag is given twice. A variable that is empty is none.
pub fn as_in_go(command: Command) -> Command {
    let command = command.mut_args(unless_empty).mut_args(with_value);
    let mut command = command.args_override_self(true);
    for below in command.get_subcommands_mut() {
        *below = as_in_go(std::mem::take(below));
    }
    command
}

fn unless_empty(arg: Arg) -> Arg {
    let variable = arg.get_env().and_then(std::env::var_os);
    match variable.is_some_and(|value| value.is_empty()) {
        true => arg.env(None::<&'static str>),
        false => arg,
    }
}

fn with_value(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .value_name("BOOL")
        .value_parser(ValueParser::new(boolean))
}

/// What Go's `strconv.ParseBool` takes.
///
/// # Errors
/// What is neither true nor false.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}
