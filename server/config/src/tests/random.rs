//! No flags make parsing panic, and what runs is within its limits. Whatever other bytes: `server/fuzz`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use proptest::prelude::*;

use super::*;

/// Texts that flags take, good and bad.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[-+]?[0-9]{1,20}",
        "[-+]?[0-9.]{0,4}(ns|us|ms|s|m|h|d)",
        "(true|false|T|0|x)",
        "(http|https|unix|unixs|ftp)://[a-z0-9.:/\\[\\]%@?#]{0,12}(:[0-9]{0,6})?",
        "([a-z]{0,3}=http://127.0.0.1:[0-9]{1,4},?){0,4}",
        "[A-Za-z]{1,10}=(true|false|1)?",
        "(jwt|simple|revision|periodic|existing|TLS1.3|extensive|proxy)",
        "(stdout|stderr|default|systemd/journal|/tmp/x)(,stderr)?",
        ".{0,12}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    let names: Vec<String> = flags().map(|spec| spec.name.to_owned()).collect();
    prop_oneof![9 => proptest::sample::select(names), 1 => "[a-z-]{0,8}"]
}

fn argument() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        8 => ("--?", name(), value()).prop_map(|(dash, name, value)| {
            vec![format!("{dash}{name}={value}")]
        }),
        4 => (name(), value()).prop_map(|(name, value)| vec![format!("--{name}"), value]),
        1 => value().prop_map(|value| vec![value]),
        1 => Just(vec!["--".to_owned()]),
    ]
}

/// Whatever comes out, it must be presentable, and a configuration must be within its limits.
fn check(outcome: &Outcome) -> Result<(), TestCaseError> {
    match outcome {
        Outcome::Print { text, exit_code } => {
            prop_assert!(*exit_code == 0 && text.ends_with('\n'));
        }
        Outcome::Fail(failure) => {
            prop_assert!(matches!(failure.exit_code, 1 | 2));
            prop_assert!(failure.text.is_some() || !failure.notices.is_empty());
        }
        Outcome::Run { config, .. } => {
            prop_assert!(config.raft.heartbeat_interval * 5 <= config.raft.election_timeout);
            prop_assert!(config.raft.election_timeout <= std::time::Duration::from_secs(50));
            prop_assert!(config.limits.io_threads.is_none_or(|threads| threads > 0));
            prop_assert!(!config.listen.client.is_empty() && !config.advertise.client.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_command_line_panics(
        args in proptest::collection::vec(argument(), 0..6),
        env in proptest::collection::btree_map(name(), value(), 0..3),
    ) {
        let args = args.into_iter().flatten().map(OsString::from);
        let env = env.into_iter().map(|(name, value)| {
            (format!("ETCD_{}", name.to_uppercase().replace('-', "_")).into(), value.into())
        });
        let outcome = parse(args, env, &no_file);
        check(&outcome)?;
    }

    #[test]
    fn no_config_file_panics(
        keys in proptest::collection::btree_map(name(), value(), 0..6),
        block in proptest::collection::btree_map("[a-z-]{0,20}", value(), 0..3),
    ) {
        let mut root: BTreeMap<String, serde_json::Value> =
            keys.into_iter().map(|(key, value)| (key, value.into())).collect();
        root.insert("peer-transport-security".to_owned(), serde_json::json!(block));
        let contents = serde_json::to_vec(&root).unwrap();
        let args = [OsString::from("--config-file=x")];
        check(&parse(args.into_iter(), std::iter::empty(), &|_| Ok(contents.clone())))?;
    }

    #[test]
    fn a_flag_and_its_variable_mean_the_same(name in name(), value in value()) {
        let Some(spec) = table::find(&name) else { return Ok(()) };
        // Empty variables count as unset, and these two are special.
        prop_assume!(!value.is_empty() && !["version", "config-file"].contains(&spec.name));
        let argument = OsString::from(format!("--{name}={value}"));
        let by_flag = parse([argument].into_iter(), std::iter::empty(), &no_file);
        let variable = (OsString::from(spec.variable("ENGRAM")), OsString::from(&value));
        let by_variable = parse(std::iter::empty(), [variable].into_iter(), &no_file);
        match (by_flag, by_variable) {
            (Outcome::Run { config: left, .. }, Outcome::Run { config: right, .. }) => {
                prop_assert_eq!(left, right);
            }
            (Outcome::Fail(_), Outcome::Fail(_)) => {}
            (left, right) => prop_assert!(false, "{:?} but {:?}", left, right),
        }
    }
}
