//! URLs, durations, numbers and what else flags take: a URL that was understood is printed as one that means
//! the same, and a duration is the one that its text adds up to.

use std::ffi::OsString;
use std::path::Path;

use engram_config::{ListenUrl, Outcome, parse};

use super::{Target, flags};

pub const TARGET: Target = Target {
    name: "texts",
    run,
    seeds,
    cases: 6_000,
};

/// Flags of every kind of value.
const FLAGS: [&str; 12] = [
    "grpc-keepalive-interval",
    "listen-client-urls",
    "initial-cluster",
    "feature-gates",
    "auto-compaction-retention",
    "quota-backend-bytes",
    "log-outputs",
    "cors",
    "cipher-suites",
    "auth-token",
    "heartbeat-interval",
    "archive-url",
];

fn run(bytes: &[u8]) {
    let Some((which, text)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let flag = FLAGS[usize::from(*which) % FLAGS.len()];
    url(&text);
    let argument = OsString::from(format!("--{flag}={text}"));
    let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let outcome = parse([argument].into_iter(), std::iter::empty(), &no_file);
    flags::check(&outcome);
    let accepts = matches!(outcome, Outcome::Run { .. });
    if flag == "grpc-keepalive-interval" && accepts && text.len() < 30 {
        assert!(is_duration(&text), "{text:?} is taken for a duration");
    }
}

fn url(text: &str) {
    let Ok(once) = ListenUrl::parse(text) else {
        return;
    };
    let printed = once.to_string();
    let again = ListenUrl::parse(&printed);
    assert_eq!(
        again.as_ref(),
        Ok(&once),
        "{text:?} is printed as {printed:?}"
    );
}

/// Go's grammar of durations, without their value: a sign, then `0` or numbers with units.
fn is_duration(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return true;
    }
    let mut rest = unsigned;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number);
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        if digits == 0 || number.len() > digits + 1 {
            return false;
        }
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        if !units.contains(&unit) {
            return false;
        }
        rest = after;
    }
    !unsigned.is_empty()
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        (0, "1h2m3.5s"),
        (0, "-1.5us"),
        (0, "9223372036854775807ns"),
        (0, "2562047h47m16.854775807s"),
        (1, "http://127.0.0.1:2379,https://[fe80::1%25eth0]:2380"),
        (1, "unix:///run/x.sock"),
        (1, "unixs://localhost:1"),
        (
            2,
            "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,b=http://10.0.0.3:1",
        ),
        (3, "CompactHashCheck=true,x=false"),
        (4, "1000"),
        (4, "10h"),
        (5, "0x10_00"),
        (5, "-1"),
        (6, "stderr,/tmp/x"),
        (7, "http://a,*"),
        (8, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        (9, "jwt,pub-key=a,priv-key=b,sign-method=RS256,ttl=5m"),
        (10, "0b101"),
        (11, "s3://bucket/prefix?region=x"),
    ];
    texts
        .iter()
        .map(|(which, text)| [&[*which], text.as_bytes()].concat())
        .collect()
}
