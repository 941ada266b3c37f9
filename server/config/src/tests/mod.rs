//! The configuration as the operator sees it: arguments, variables and files in, outcome out.

mod bootstrap;
mod environment;
mod file;
mod flags;
mod random;
mod rules;
mod used;

use std::io;
use std::path::Path;

use super::*;

fn no_file(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

/// Parses a command line and an environment, without a config file.
fn parse_with(args: &[&str], env: &[(&str, &str)]) -> Outcome {
    parse(
        args.iter().map(OsString::from),
        env.iter()
            .map(|(key, value)| (OsString::from(key), OsString::from(value))),
        &no_file,
    )
}

/// Parses a config file with these contents.
fn parse_file(contents: &str) -> Outcome {
    let read = |path: &Path| {
        assert_eq!(path, Path::new("/etc/engram.yaml"));
        Ok(contents.as_bytes().to_vec())
    };
    let args = ["--config-file=/etc/engram.yaml"].map(OsString::from);
    parse(args.into_iter(), std::iter::empty(), &read)
}

fn run(outcome: Outcome) -> (Config, Vec<Notice>) {
    match outcome {
        Outcome::Run { config, notices } => (*config, notices),
        other => panic!("expected to run, got {other:?}"),
    }
}

fn fail(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Fail(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn config(args: &[&str]) -> Config {
    run(parse_with(args, &[])).0
}

fn texts(urls: &[ListenUrl]) -> Vec<String> {
    urls.iter().map(ListenUrl::to_string).collect()
}

fn messages(notices: &[Notice]) -> Vec<&str> {
    notices
        .iter()
        .map(|notice| notice.message.as_str())
        .collect()
}
