//! The config file: whatever it holds, there is an answer.

use std::ffi::OsString;

use engram_config::parse;

use super::{Target, flags};

pub const TARGET: Target = Target {
    name: "config_file",
    run,
    seeds,
    cases: 4_000,
};

fn run(bytes: &[u8]) {
    let arguments = [OsString::from("--config-file=x")].into_iter();
    let outcome = parse(arguments, std::iter::empty(), &|_| Ok(bytes.to_vec()));
    flags::check(&outcome);
}

fn seeds() -> Vec<Vec<u8>> {
    let files = [
        "name: a\ndata-dir: /x\nheartbeat-interval: 50\nelection-timeout: 500\n",
        "listen-client-urls: http://127.0.0.1:1\nadvertise-client-urls: http://127.0.0.1:1\n",
        "client-transport-security:\n  cert-file: c\n  key-file: k\n  auto-tls: true\n",
        "peer-transport-security:\n  client-cert-auth: true\n  trusted-ca-file: t\n",
        "{\"name\": \"a\", \"log-outputs\": [\"stderr\"], \"quota-backend-bytes\": 5}",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "name: !!binary aGk=\n",
        "---\nname: a\n...\n---\nname: b\n",
        "feature-gates: X=true\nunknown: {a: {b: [1, 2.5, ~, true]}}\n",
        "",
    ];
    files.map(|file| file.as_bytes().to_vec()).to_vec()
}
