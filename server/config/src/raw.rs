//! Values of flags as they were given: parsed by kind, not yet compared with one another.

use std::collections::{BTreeMap, BTreeSet};

use super::gates::FeatureGates;
use super::golang::{parse_bool, parse_duration, parse_signed, parse_unsigned};
use super::table::{self, FlagSpec, Kind};
use super::url::ListenUrl;

/// The value of one flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    Text(String),
    Unsigned(u64),
    OptionalUnsigned(Option<u64>),
    Signed(i64),
    /// Nanoseconds.
    Duration(i64),
    Urls(Vec<ListenUrl>),
    List(Vec<String>),
    Gates(FeatureGates),
    Ignored,
}

/// The value of every flag, and which of them were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    values: BTreeMap<&'static str, Value>,
    given: BTreeSet<&'static str>,
}

/// What keeps the accessors below from failing: the table is constant and tested.
const KIND_IS_KNOWN: &str = "the flag is in the table with this kind";

impl Raw {
    /// Every flag at its default.
    pub(super) fn new() -> Self {
        let default = |spec: &'static FlagSpec| (spec.name, default_value(spec));
        Self {
            values: table::flags().map(default).collect(),
            given: BTreeSet::new(),
        }
    }

    /// Reads `text` as the value of the flag, as Go's `flag.Value.Set` would. The error is the
    /// reason alone, in Go's words.
    pub(super) fn set(&mut self, name: &'static str, text: &str) -> Result<(), String> {
        let spec = table::find(name).expect("only flags of the table are set");
        let value = self
            .values
            .get_mut(name)
            .expect("every flag of the table has a value");
        set_value(spec.kind, value, text)?;
        self.given.insert(name);
        Ok(())
    }

    /// Stores a value that was made elsewhere than by [`Raw::set`].
    pub(super) fn put(&mut self, name: &'static str, value: Value) {
        let known = self.values.insert(name, value);
        assert!(known.is_some(), "{name} is in the table");
        self.given.insert(name);
    }

    /// Stores a value that follows from others, without counting the flag as given.
    pub(super) fn replace(&mut self, name: &'static str, value: Value) {
        let known = self.values.insert(name, value);
        assert!(known.is_some(), "{name} is in the table");
    }

    /// Whether the flag was given, even if with its default.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    /// The flags that were given, in the order of names.
    pub(super) fn given(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.given.iter().copied()
    }

    pub(super) fn value(&self, name: &str) -> &Value {
        self.values.get(name).expect(KIND_IS_KNOWN)
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        let Value::Bool(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        *value
    }

    pub(super) fn text(&self, name: &str) -> &str {
        let Value::Text(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        value
    }

    pub(super) fn unsigned(&self, name: &str) -> u64 {
        let Value::Unsigned(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        *value
    }

    pub(super) fn optional_unsigned(&self, name: &str) -> Option<u64> {
        let Value::OptionalUnsigned(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        *value
    }

    pub(super) fn signed(&self, name: &str) -> i64 {
        let Value::Signed(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        *value
    }

    /// Nanoseconds.
    pub(super) fn duration(&self, name: &str) -> i64 {
        let Value::Duration(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        *value
    }

    pub(super) fn urls(&self, name: &str) -> &[ListenUrl] {
        let Value::Urls(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        value
    }

    pub(super) fn list(&self, name: &str) -> &[String] {
        let Value::List(value) = self.value(name) else {
            panic!("{name}: {KIND_IS_KNOWN}")
        };
        value
    }

    pub(super) fn gates(&self) -> &FeatureGates {
        let Value::Gates(value) = self.value("feature-gates") else {
            panic!("{KIND_IS_KNOWN}")
        };
        value
    }
}

/// The default of a flag. An empty text is the empty value of its kind.
fn default_value(spec: &FlagSpec) -> Value {
    let mut value = match spec.kind {
        Kind::Bool => Value::Bool(false),
        Kind::Text | Kind::Choice(_) | Kind::Choices(_) => Value::Text(String::new()),
        Kind::Unsigned | Kind::Unsigned32 => Value::Unsigned(0),
        Kind::OptionalUnsigned => Value::OptionalUnsigned(None),
        Kind::Signed => Value::Signed(0),
        Kind::Duration => Value::Duration(0),
        Kind::Urls => Value::Urls(Vec::new()),
        Kind::Origins | Kind::List | Kind::Set => Value::List(Vec::new()),
        Kind::Gates => Value::Gates(FeatureGates::default()),
        Kind::Ignored => Value::Ignored,
    };
    if !spec.default.is_empty() {
        set_value(spec.kind, &mut value, spec.default).expect("defaults are well formed");
    }
    value
}

fn set_value(kind: Kind, value: &mut Value, text: &str) -> Result<(), String> {
    let number = |error: super::golang::NumberError| error.flag_text().to_owned();
    *value = match kind {
        Kind::Ignored => Value::Ignored,
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Bool => Value::Bool(parse_bool(text).ok_or("parse error")?),
        Kind::Unsigned => Value::Unsigned(parse_unsigned(text, u64::MAX).map_err(number)?),
        Kind::OptionalUnsigned => {
            Value::OptionalUnsigned(Some(parse_unsigned(text, u64::MAX).map_err(number)?))
        }
        Kind::Unsigned32 => {
            let parsed = parse_unsigned(text, u32::MAX.into());
            Value::Unsigned(parsed.map_err(|error| error.strconv_text("ParseUint", text))?)
        }
        Kind::Signed => Value::Signed(parse_signed(text).map_err(number)?),
        Kind::Duration => Value::Duration(parse_duration(text).map_err(|_| "parse error")?),
        Kind::Choice(choices) => {
            let known = choices.contains(&text);
            Value::Text(known.then(|| text.to_owned()).ok_or("invalid value")?)
        }
        Kind::Choices(choices) => {
            if let Some(unknown) = text.split(',').find(|part| !choices.contains(part)) {
                return Err(format!("invalid value {}", super::golang::quote(unknown)));
            }
            Value::Text(text.to_owned())
        }
        // An empty list of URLs is accepted and changes nothing, as in etcd.
        Kind::Urls if text.is_empty() => return Ok(()),
        Kind::Urls => Value::Urls(unique_urls(text)?),
        Kind::Origins if text == "*" => Value::List(vec!["*".to_owned()]),
        Kind::Origins => Value::List(
            unique_urls(text)?
                .iter()
                .map(ListenUrl::to_string)
                .collect(),
        ),
        Kind::List => Value::List(text.split(',').map(str::to_owned).collect()),
        Kind::Set => Value::List(sorted_set(text.split(','))),
        Kind::Gates => {
            let Value::Gates(gates) = value else {
                panic!("{KIND_IS_KNOWN}")
            };
            return gates.set(text);
        }
    };
    Ok(())
}

fn unique_urls(text: &str) -> Result<Vec<ListenUrl>, String> {
    let mut urls = ListenUrl::parse_list(text).map_err(|error| error.to_string())?;
    urls.dedup();
    Ok(urls)
}

/// The texts sorted, each once.
pub(super) fn sorted_set<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let set: BTreeSet<&str> = texts.collect();
    set.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_well_formed() {
        let raw = Raw::new();
        for spec in table::flags() {
            let matches_kind = match (spec.kind, raw.value(spec.name)) {
                (Kind::Bool, Value::Bool(_))
                | (Kind::Text | Kind::Choice(_) | Kind::Choices(_), Value::Text(_))
                | (Kind::Unsigned | Kind::Unsigned32, Value::Unsigned(_))
                | (Kind::OptionalUnsigned, Value::OptionalUnsigned(None))
                | (Kind::Signed, Value::Signed(_))
                | (Kind::Duration, Value::Duration(_))
                | (Kind::Urls, Value::Urls(_))
                | (Kind::Origins | Kind::List | Kind::Set, Value::List(_))
                | (Kind::Gates, Value::Gates(_))
                | (Kind::Ignored, Value::Ignored) => true,
                (_, _) => false,
            };
            assert!(matches_kind, "{}", spec.name);
        }
        assert_eq!(raw.given().count(), 0);
    }

    #[test]
    fn a_repeated_flag_replaces_and_repeated_gates_add_up() {
        let mut raw = Raw::new();
        for (name, text) in [
            ("cipher-suites", "a,b"),
            ("cipher-suites", "c"),
            ("log-outputs", "stdout,stderr,stdout"),
            ("listen-peer-urls", "http://b:1,http://a:1,http://b:1"),
            ("feature-gates", "InitialCorruptCheck=true"),
            ("feature-gates", "PriorityRequest=true"),
        ] {
            raw.set(name, text).unwrap();
        }
        assert_eq!(raw.list("cipher-suites"), ["c"]);
        assert_eq!(raw.list("log-outputs"), ["stderr", "stdout"]);
        assert_eq!(raw.urls("listen-peer-urls").len(), 2);
        assert!(raw.gates().enabled("InitialCorruptCheck"));
        assert!(raw.gates().enabled("PriorityRequest"));
    }

    #[test]
    fn an_empty_url_list_counts_as_given_and_changes_nothing() {
        let mut raw = Raw::new();
        let before = raw.urls("listen-peer-urls").to_vec();
        raw.set("listen-peer-urls", "").unwrap();
        assert_eq!(raw.urls("listen-peer-urls"), before);
        assert!(raw.is_given("listen-peer-urls"));
    }
}
