//! Every flag in one place: its name, kind, default, unit, limits and what it does here.
//!
//! The rows follow the sections of etcd's help. A flag's variable is `ETCD_<NAME>` or
//! `ENGRAM_<NAME>` in upper case with `_` for `-`; its key in a config file is its name where
//! [`FlagSpec::in_file`] says so, else see [`super::file`].

mod clustering;
mod member;
mod operations;
mod security;

/// How the text of a flag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false` as Go reads them; without a value it means `true`.
    Bool,
    /// Any text.
    Text,
    /// A whole number of 64 bits that is not negative.
    Unsigned,
    /// As [`Kind::Unsigned`], or unset.
    OptionalUnsigned,
    /// A whole number of 32 bits that is not negative.
    Unsigned32,
    /// A whole number of 64 bits.
    Signed,
    /// A duration such as `300ms` or `1h30m`; in a config file also nanoseconds.
    Duration,
    /// URLs separated by commas, kept sorted and once each.
    Urls,
    /// `*` or URLs, as `--cors` takes them.
    Origins,
    /// Texts separated by commas, in their order.
    List,
    /// Texts separated by commas, kept sorted and once each.
    Set,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Some of these texts, separated by commas.
    Choices(&'static [&'static str]),
    /// Feature gates, `Name=bool` separated by commas.
    Gates,
    /// Accepted with any value or none, and dropped, as etcd does.
    Ignored,
}

/// Whether a flag does anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does what it says.
    Used,
    /// It is accepted so that etcd's command lines work; setting it is reported.
    None,
}

/// The section of the help that a flag is listed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Member,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Tracing,
    Features,
    Unsafe,
    Engram,
    General,
    /// Not shown.
    Hidden,
}

impl Section {
    /// The sections that help shows, in its order.
    pub(super) const SHOWN: [(Self, &'static str); 11] = [
        (Self::General, "General"),
        (Self::Member, "Member"),
        (Self::Clustering, "Clustering"),
        (Self::Security, "Security"),
        (Self::Auth, "Auth"),
        (Self::Monitoring, "Profiling and Monitoring"),
        (Self::Logging, "Logging"),
        (Self::Tracing, "Distributed tracing"),
        (Self::Features, "Features"),
        (Self::Unsafe, "Unsafe features"),
        (Self::Engram, "Engram"),
    ];
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct FlagSpec {
    /// The name without dashes in front.
    pub name: &'static str,
    /// How its text is read.
    pub kind: Kind,
    /// The default as text; empty means unset.
    pub default: &'static str,
    /// What a number counts; empty for what is no number.
    pub unit: &'static str,
    /// The smallest and the largest number that is accepted, in `unit` (durations: nanoseconds).
    pub range: Option<(i128, i128)>,
    /// Whether it does anything here.
    pub effect: Effect,
    /// Whether a config file may hold it under this name at its top level.
    pub in_file: bool,
    /// One or two sentences for the help.
    pub about: &'static str,
    section: Section,
}

impl FlagSpec {
    const fn new(
        section: Section,
        name: &'static str,
        kind: Kind,
        default: &'static str,
        about: &'static str,
    ) -> Self {
        let range = match kind {
            Kind::Duration => Some((0, i64::MAX as i128)),
            _ => None,
        };
        let effect = Effect::Used;
        Self {
            name,
            kind,
            default,
            unit: "",
            range,
            effect,
            in_file: true,
            about,
            section,
        }
    }

    /// What its number counts.
    const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// The smallest and the largest number that is accepted.
    const fn range(mut self, min: i128, max: i128) -> Self {
        self.range = Some((min, max));
        self
    }

    /// It is accepted and does nothing.
    const fn without_effect(mut self) -> Self {
        self.effect = Effect::None;
        self
    }

    /// It is no top-level key of a config file.
    const fn not_in_file(mut self) -> Self {
        self.in_file = false;
        self
    }

    /// The variable of this flag, with the prefix `ETCD` or `ENGRAM`.
    #[must_use]
    pub fn variable(&self, prefix: &str) -> String {
        format!(
            "{prefix}_{}",
            self.name.to_ascii_uppercase().replace('-', "_")
        )
    }

    pub(super) const fn section(&self) -> Section {
        self.section
    }
}

/// Every flag, section by section.
pub fn flags() -> impl Iterator<Item = &'static FlagSpec> {
    [
        member::FLAGS,
        clustering::FLAGS,
        security::FLAGS,
        operations::FLAGS,
        operations::ENGRAM_FLAGS,
        operations::RETIRED_FLAGS,
    ]
    .into_iter()
    .flatten()
}

/// The flag of this name.
pub(super) fn find(name: &str) -> Option<&'static FlagSpec> {
    flags().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut names = BTreeSet::new();
        for spec in flags() {
            assert!(names.insert(spec.name), "{} is listed twice", spec.name);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            assert!(spec.name.chars().all(plain), "{}", spec.name);
            let documented = spec.section() == Section::Hidden || spec.about.ends_with('.');
            assert!(documented, "{} needs a sentence", spec.name);
        }
    }

    #[test]
    fn every_flag_of_etcd_3_7_is_listed() {
        let etcd = include_str!("etcd-3.7-flags.txt");
        let missing: Vec<&str> = etcd.lines().filter(|name| find(name).is_none()).collect();
        assert_eq!(missing, Vec::<&str>::new());
        let ours: Vec<&str> = flags()
            .map(|spec| spec.name)
            .filter(|name| !etcd.lines().any(|known| known == *name))
            .collect();
        assert_eq!(
            ours,
            [
                "client-cert-allowed-cn",
                "answer-budget-bytes",
                "archive-url",
                "archive-cluster",
                "archive-encryption-key-files",
                "archive-max-delay",
                "archive-segment-bytes",
                "archive-backlog-bytes",
                "io-threads",
                "value-cache-bytes"
            ],
            "flags that etcd does not have"
        );
    }

    #[test]
    fn numbers_have_a_unit() {
        let numeric = [
            Kind::Unsigned,
            Kind::OptionalUnsigned,
            Kind::Unsigned32,
            Kind::Signed,
        ];
        for spec in flags().filter(|spec| numeric.contains(&spec.kind)) {
            assert_ne!(spec.unit, "", "{}", spec.name);
        }
    }

    #[test]
    fn variables_are_upper_snake_case() {
        let spec = find("listen-client-urls").unwrap();
        assert_eq!(spec.variable("ETCD"), "ETCD_LISTEN_CLIENT_URLS");
        assert_eq!(spec.variable("ENGRAM"), "ENGRAM_LISTEN_CLIENT_URLS");
    }
}
