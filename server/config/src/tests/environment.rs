//! Settings from the environment.

use super::*;

fn with_field<'a>(notices: &'a [Notice], message: &str) -> Vec<&'a str> {
    let matching = notices.iter().filter(|notice| notice.message == message);
    matching.map(|notice| notice.fields[0].1.as_str()).collect()
}

#[test]
fn both_prefixes_set_flags_and_ours_wins() {
    let env = [
        ("ETCD_NAME", "theirs"),
        ("ENGRAM_NAME", "ours"),
        ("ETCD_DATA_DIR", "/data"),
        ("ENGRAM_IO_THREADS", "3"),
        ("ETCD_UNSAFE_NO_FSYNC", "true"),
        ("PATH", "/bin"),
    ];
    let (config, notices) = run(parse_with(&[], &env));
    assert_eq!(config.name, "ours");
    assert_eq!(config.data_dir, Path::new("/data"));
    assert_eq!(config.limits.io_threads, Some(3));
    assert!(config.unsafe_no_fsync);
    assert_eq!(
        with_field(&notices, "recognized and used environment variable"),
        [
            "ETCD_DATA_DIR",
            "ENGRAM_IO_THREADS",
            "ENGRAM_NAME",
            "ETCD_UNSAFE_NO_FSYNC"
        ]
    );
    assert_eq!(
        with_field(&notices, "environment variable is shadowed by another"),
        ["ETCD_NAME"]
    );
}

#[test]
fn unknown_variables_are_only_reported_and_without_their_value() {
    let env = [
        ("ETCD_VERIFY", "all"),
        ("ETCD_UNSUPPORTED_ARCH", "arm64"),
        ("ENGRAM_ROOT_PASSWORD", "secret"),
        ("ETCD_NAME", ""),
        ("ETCDCTL_API", "3"),
        ("ENGRAMS", "x"),
    ];
    let (config, notices) = run(parse_with(&[], &env));
    assert_eq!(config.name, "default");
    assert_eq!(
        with_field(&notices, "unrecognized environment variable"),
        [
            "ENGRAM_ROOT_PASSWORD",
            "ETCD_NAME",
            "ETCD_UNSUPPORTED_ARCH",
            "ETCD_VERIFY"
        ]
    );
    assert!(!format!("{notices:?}").contains("secret"));
}

#[test]
fn a_variable_beside_its_flag_is_fatal() {
    for (variable, value) in [("ETCD_NAME", "b"), ("ENGRAM_NAME", "b"), ("ETCD_NAME", "")] {
        let failure = fail(parse_with(&["--name=a"], &[(variable, value)]));
        assert_eq!(failure.exit_code, 1);
        assert_eq!(failure.notices.len(), 1);
        assert_eq!(failure.notices[0].level, Level::Fatal);
        assert_eq!(
            failure.notices[0].message,
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag))"
        );
        assert_eq!(
            failure.notices[0].fields,
            [("environment-variable", variable.to_owned())]
        );
    }
}

#[test]
fn a_bad_value_names_the_variable() {
    let failure = fail(parse_with(&[], &[("ETCD_HEARTBEAT_INTERVAL", "100 # ms")]));
    assert_eq!(
        failure.message,
        "invalid value \"100 # ms\" for ETCD_HEARTBEAT_INTERVAL: parse error"
    );
    assert_eq!(failure.exit_code, 1);
    assert_eq!(
        failure.notices.last().unwrap().message,
        "failed to verify flags"
    );
}

#[test]
fn the_version_variable_does_not_ask_for_the_version() {
    let (_, notices) = run(parse_with(&[], &[("ETCD_VERSION", "v3.5.0")]));
    assert_eq!(
        with_field(&notices, "cannot set special environment variable"),
        ["ETCD_VERSION"]
    );
    assert!(with_field(&notices, "unrecognized environment variable").is_empty());
}

#[test]
fn passwords_are_not_reported() {
    let env = [("ETCD_DISCOVERY_PASSWORD", "hunter2")];
    let (_, notices) = run(parse_with(&[], &env));
    assert!(!format!("{notices:?}").contains("hunter2"));
}

#[test]
fn listening_without_advertising_counts_from_the_environment_too() {
    let failure = fail(parse_with(
        &[],
        &[("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")],
    ));
    assert!(
        failure
            .message
            .starts_with("--advertise-client-urls is required")
    );
    let (config, _) = run(parse_with(
        &["--listen-client-urls=http://127.0.0.1:1"],
        &[("ENGRAM_ADVERTISE_CLIENT_URLS", "http://127.0.0.1:1")],
    ));
    assert_eq!(texts(&config.advertise.client), ["http://127.0.0.1:1"]);
}

#[test]
fn a_variable_names_the_config_file() {
    let read = |path: &Path| match path.to_str() {
        Some("/ours") => Ok(b"name: from-file".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let env = [
        ("ENGRAM_CONFIG_FILE", "/ours"),
        ("ETCD_CONFIG_FILE", "/theirs"),
    ];
    let env = env.map(|(key, value)| (OsString::from(key), OsString::from(value)));
    let (config, _) = run(parse(std::iter::empty(), env.into_iter(), &read));
    assert_eq!(config.name, "from-file");
}
