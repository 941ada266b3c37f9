//! Flags that are true or false, as Go's flag packages take them.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};

/// Lets every switch of a command and of those below it take a value behind `=` (`--prefix=false`),
/// and the last one count where a flag is given twice.
pub fn as_in_go(command: Command) -> Command {
    let mut command = command.mut_args(with_value).args_override_self(true);
    for below in command.get_subcommands_mut() {
        *below = as_in_go(std::mem::take(below));
    }
    command
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
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}
