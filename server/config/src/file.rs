//! The config file: YAML or JSON with etcd's keys.
//!
//! Most keys are names of flags. TLS stands in the blocks `client-transport-security` and
//! `peer-transport-security`, sockets in `socket-options`, discovery in `discovery-config`. Keys
//! match in any case, unknown keys are reported and otherwise ignored, and an absent value leaves
//! the default, all as in etcd. Beyond etcd, a duration may be text (`10m`) as well as a number of
//! nanoseconds, and a list may be text with commas.

use std::io;
use std::path::Path;

use serde::Deserialize as _;
use serde_yaml_ng::{Mapping, Value as Yaml};

use super::golang::quote;
use super::raw::{Raw, Value, sorted_set};
use super::table::{self, FlagSpec, Kind};
use super::{Failure, Notice};
use crate::trace::Level;

/// Size beyond which a config file is refused: none comes near it, and reading YAML costs memory.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A block of keys: where it stands, and which flag each of its keys sets.
struct Block {
    name: &'static str,
    keys: &'static [(&'static str, &'static str)],
    blocks: &'static [Block],
}

const BLOCKS: &[Block] = &[
    Block {
        name: "client-transport-security",
        keys: &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-cn", "client-cert-allowed-cn"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
        blocks: &[],
    },
    Block {
        name: "peer-transport-security",
        keys: &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
        blocks: &[],
    },
    Block {
        name: "socket-options",
        keys: &[
            ("reuse-port", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
        ],
        blocks: &[],
    },
    Block {
        name: "discovery-config",
        keys: &[("token", "discovery-token")],
        blocks: &[Block {
            name: "client",
            keys: &[
                ("endpoints", "discovery-endpoints"),
                ("dial-timeout", "discovery-dial-timeout"),
                ("request-timeout", "discovery-request-timeout"),
                ("keepalive-time", "discovery-keepalive-time"),
                ("keepalive-timeout", "discovery-keepalive-timeout"),
            ],
            blocks: &[
                Block {
                    name: "secure",
                    keys: &[
                        ("cert", "discovery-cert"),
                        ("key", "discovery-key"),
                        ("cacert", "discovery-cacert"),
                        ("insecure-transport", "discovery-insecure-transport"),
                        (
                            "insecure-skip-tls-verify",
                            "discovery-insecure-skip-tls-verify",
                        ),
                    ],
                    blocks: &[],
                },
                Block {
                    name: "auth",
                    keys: &[
                        ("username", "discovery-user"),
                        ("password", "discovery-password"),
                    ],
                    blocks: &[],
                },
            ],
        }],
    },
];

/// Reads the config file at `path`.
pub(super) fn load(
    path: &str,
    read_file: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    notices: &mut Vec<Notice>,
) -> Result<Raw, Failure> {
    let bytes =
        read_file(Path::new(path)).map_err(|error| Failure::verify(describe(path, &error)))?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("{path}: a config file has at most {FILE_BYTES_MAX} bytes");
        return Err(Failure::verify(message));
    }
    let root = read_yaml(&bytes).map_err(|error| {
        Failure::verify(format!("error converting YAML to JSON: yaml: {error}"))
    })?;
    let mut raw = Raw::new();
    let mut reader = Reader {
        raw: &mut raw,
        notices,
    };
    match root {
        Yaml::Null => {}
        Yaml::Mapping(root) => reader.read_root(&root)?,
        _ => {
            return Err(Failure::verify(format!(
                "{path}: a config file is a map of keys"
            )));
        }
    }
    apply_file_rules(&mut raw);
    Ok(raw)
}

/// The file's first document, as etcd takes it. An editor may have put a mark of its encoding before it.
fn read_yaml(bytes: &[u8]) -> Result<Yaml, serde_yaml_ng::Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = serde_yaml_ng::Deserializer::from_slice(bytes).next();
    let mut root = first.map_or(Ok(Yaml::Null), Yaml::deserialize)?;
    root.apply_merge()?;
    Ok(root)
}

/// What Go would say, without the number that Rust adds.
fn describe(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("open {path}: no such file or directory"),
        io::ErrorKind::PermissionDenied => format!("open {path}: permission denied"),
        io::ErrorKind::IsADirectory => format!("read {path}: is a directory"),
        _ => format!("open {path}: {error}"),
    }
}

/// Defaults that depend on what the file holds.
fn apply_file_rules(raw: &mut Raw) {
    let discovers =
        !raw.text("discovery-srv").is_empty() || !raw.list("discovery-endpoints").is_empty();
    if discovers && raw.value("initial-cluster") == Raw::new().value("initial-cluster") {
        raw.replace("initial-cluster", Value::Text(String::new()));
    }
    if raw.text("initial-cluster-state").is_empty() {
        raw.replace("initial-cluster-state", Value::Text("new".to_owned()));
    }
    if raw.unsigned("self-signed-cert-validity") == 0 {
        raw.replace("self-signed-cert-validity", Value::Unsigned(1));
    }
}

struct Reader<'a> {
    raw: &'a mut Raw,
    notices: &'a mut Vec<Notice>,
}

impl Reader<'_> {
    fn read_root(&mut self, root: &Mapping) -> Result<(), Failure> {
        for (key, value) in in_order(root) {
            let name = key.to_ascii_lowercase();
            if let Some(block) = BLOCKS.iter().find(|block| block.name == name) {
                self.read_block(block, block.name, value)?;
                continue;
            }
            match table::find(&name).filter(|spec| spec.in_file) {
                Some(spec) => self.read_value(spec, &key, value)?,
                None => self.report_unknown(&key),
            }
        }
        Ok(())
    }

    fn read_block(&mut self, block: &Block, path: &str, value: &Yaml) -> Result<(), Failure> {
        let map = match value {
            Yaml::Null => return Ok(()),
            Yaml::Mapping(map) => map,
            _ => return Err(Failure::verify(format!("invalid {path}"))),
        };
        for (key, value) in in_order(map) {
            let name = key.to_ascii_lowercase();
            let path = format!("{path}.{key}");
            if let Some(inner) = block.blocks.iter().find(|inner| inner.name == name) {
                self.read_block(inner, &path, value)?;
                continue;
            }
            let flag = block.keys.iter().find(|(known, _)| *known == name);
            match flag.and_then(|(_, flag)| table::find(flag)) {
                Some(spec) => self.read_value(spec, &path, value)?,
                None => self.report_unknown(&path),
            }
        }
        Ok(())
    }

    fn read_value(&mut self, spec: &FlagSpec, path: &str, value: &Yaml) -> Result<(), Failure> {
        let fail = |reason: String| Failure::verify(format!("config file key {path:?}: {reason}"));
        if value.is_null() {
            return Ok(());
        }
        if let Yaml::Sequence(items) = value {
            let texts: Option<Vec<String>> = items.iter().map(scalar_text).collect();
            let texts = texts.ok_or_else(|| fail("expected a list of texts".to_owned()))?;
            return self.put_list(spec, texts).map_err(fail);
        }
        let text = scalar_text(value).ok_or_else(|| fail("expected a single value".to_owned()))?;
        let text = match (spec.kind, value) {
            (Kind::Duration, Yaml::Number(_)) => format!("{text}ns"),
            (Kind::Bool, Yaml::String(word)) => yaml_1_1_bool(word).unwrap_or(word).to_owned(),
            // etcd takes an empty text of these for an absent one.
            (Kind::Urls | Kind::Origins | Kind::Gates | Kind::List, _) if text.is_empty() => {
                return Ok(());
            }
            (Kind::Set, _) if text.is_empty() => return Ok(()),
            // A choice is checked by `validate`, whose text etcd uses for files.
            (Kind::Choice(_) | Kind::Choices(_), _) => {
                self.raw.put(spec.name, Value::Text(text));
                return Ok(());
            }
            _ => text,
        };
        match self.raw.set(spec.name, &text) {
            Ok(()) => Ok(()),
            Err(reason) if spec.kind == Kind::Urls => {
                let message = format!("unexpected error setting up {}: {reason}", spec.name);
                Err(Failure::plain(message, 1))
            }
            Err(reason) if spec.kind == Kind::Gates => Err(Failure::verify(reason)),
            Err(reason) => Err(fail(format!("invalid value {}: {reason}", quote(&text)))),
        }
    }

    fn put_list(&mut self, spec: &FlagSpec, texts: Vec<String>) -> Result<(), String> {
        let list = match spec.kind {
            Kind::List => texts,
            Kind::Set => sorted_set(texts.iter().map(String::as_str)),
            Kind::Urls | Kind::Origins => return self.raw.set(spec.name, &texts.join(",")),
            _ => return Err("expected a single value, not a list".to_owned()),
        };
        self.raw.put(spec.name, Value::List(list));
        Ok(())
    }

    fn report_unknown(&mut self, path: &str) {
        let notice = Notice::new(Level::Warn, "config file key is not known, ignoring it");
        self.notices.push(notice.with("key", path));
    }
}

/// A map's keys in the order of their bytes, as etcd has them: it turns the file into JSON first, and of two
/// keys that differ in case the later one counts.
fn in_order(map: &Mapping) -> Vec<(String, &Yaml)> {
    let text = |key| scalar_text(key).unwrap_or_else(|| "<not a text>".to_owned());
    let keys = map.iter().map(|(key, value)| (text(key), value));
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    keys
}

/// A scalar as text; `None` for lists and maps.
fn scalar_text(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Null => Some(String::new()),
        Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => None,
    }
}

/// etcd's YAML is version 1.1, where these words are booleans.
fn yaml_1_1_bool(word: &str) -> Option<&'static str> {
    match word {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some("true"),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some("false"),
        _ => None,
    }
}
