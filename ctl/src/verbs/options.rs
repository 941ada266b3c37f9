//! `options`, `completion`, and what `--debug` says: the command line about itself.

use std::fmt::Write as _;

use clap::Arg;
use clap_complete::Shell;

use crate::cli::{Cli, Global};
use crate::failure::Failure;
use crate::output;

/// What a script to complete words is for.
const PROGRAM: &str = "engramctl";

/// `options`: the flags that every verb has.
pub fn options() -> Result<(), Failure> {
    output::text(&format!(
        "The following options can be passed to any command:\n\n{}",
        usages()
    ))
}

/// Flags as Go's pflag lists them.
fn usages() -> String {
    let words = Cli::words();
    let mut flags: Vec<&Arg> = words
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .collect();
    flags.sort_by_key(|arg| arg.get_long());
    let names: Vec<String> = flags.iter().map(|arg| name(arg)).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    let mut text = String::new();
    for (arg, name) in flags.iter().zip(&names) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = default(arg);
        writeln!(text, "{name:width$}   {help}{default}").expect("a string takes what is written");
    }
    text
}

fn name(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let begin = match arg.get_short() {
        Some(short) => format!("  -{short}, --{long}"),
        None => format!("      --{long}"),
    };
    match arg.get_value_names() {
        Some([kind]) if *kind != "BOOL" && kind.chars().all(char::is_lowercase) => {
            format!("{begin} {kind}")
        }
        _ => begin,
    }
}

fn default(arg: &Arg) -> String {
    let values = arg.get_default_values().iter();
    let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
    let text = values.join(",");
    match arg.get_value_names().and_then(<[_]>::first) {
        _ if matches!(text.as_str(), "" | "0" | "false") => String::new(),
        Some(kind) if *kind == "strings" => format!(" (default [{text}])"),
        Some(kind) if *kind == "string" => format!(" (default {text:?})"),
        _ => format!(" (default {text})"),
    }
}

/// `completion`.
pub fn completion(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::words(), PROGRAM, &mut script);
    output::bytes(&script)
}

/// Says on standard error which flags are in force, as the variables that would set them. Passwords and
/// tokens are not shown.
pub fn debug(global: &Global) {
    let path = |path: &Option<std::path::PathBuf>| {
        let path = path.as_ref();
        path.map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    let hidden = |is_given: bool| if is_given { "(hidden)" } else { "" }.to_owned();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let flags = [
        ("AUTH_JWT_TOKEN", hidden(global.auth_jwt_token.is_some())),
        ("CACERT", path(&global.cacert)),
        ("CERT", path(&global.cert)),
        ("COMMAND_TIMEOUT", format!("{:?}", global.command_timeout)),
        ("DEBUG", global.debug.to_string()),
        ("DIAL_TIMEOUT", format!("{:?}", global.dial_timeout)),
        ("DISCOVERY_SRV", text(&global.discovery_srv)),
        ("DISCOVERY_SRV_NAME", text(&global.discovery_srv_name)),
        ("ENDPOINTS", format!("[{}]", global.endpoints.join(","))),
        ("HEX", global.hex.to_string()),
        ("INSECURE_DISCOVERY", global.insecure_discovery.to_string()),
        (
            "INSECURE_SKIP_TLS_VERIFY",
            global.insecure_skip_tls_verify.to_string(),
        ),
        ("INSECURE_TRANSPORT", global.insecure_transport.to_string()),
        ("KEEPALIVE_TIME", format!("{:?}", global.keepalive_time)),
        (
            "KEEPALIVE_TIMEOUT",
            format!("{:?}", global.keepalive_timeout),
        ),
        ("KEY", path(&global.key)),
        ("MAX_RECV_BYTES", global.max_recv_bytes.to_string()),
        ("MAX_REQUEST_BYTES", global.max_request_bytes.to_string()),
        ("PASSWORD", hidden(global.password.is_some())),
        ("USER", hidden(global.user.is_some())),
        ("WRITE_OUT", global.write_out.name().to_owned()),
    ];
    for (name, value) in flags {
        eprintln!("ETCDCTL_{name}={value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_etcdctls_is_an_option() {
        let usages = usages();
        let lines = [
            "--auth-jwt-token string",
            "--cacert string",
            "--cert string",
            "--command-timeout duration",
            "--debug ",
            "--dial-timeout duration",
            "-d, --discovery-srv string",
            "--discovery-srv-name string",
            "--endpoints strings",
            "--hex ",
            "--insecure-discovery ",
            "--insecure-skip-tls-verify ",
            "--insecure-transport ",
            "--keepalive-time duration",
            "--keepalive-timeout duration",
            "--key string",
            "--max-recv-bytes int",
            "--max-request-bytes int",
            "--password string",
            "--user string",
            "-w, --write-out string",
        ];
        for line in lines {
            assert!(usages.contains(line), "{line} is not in\n{usages}");
        }
        assert!(usages.contains("gRPC endpoints (default [127.0.0.1:2379])"));
    }

    #[test]
    fn every_shell_is_served() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::words(), PROGRAM, &mut script);
            let script = String::from_utf8(script).expect("a script is text");
            assert!(script.contains("make-mirror"), "{shell}");
        }
    }
}
