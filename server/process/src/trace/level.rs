//! Levels and formats of the log, spelled as etcd's flags spell them.

use std::fmt;

/// How much a line matters, in rising order. `dpanic`, `panic` and `fatal` exist for etcd's
/// readers; writing them does not end the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Detail for someone who looks for a fault.
    Debug,
    /// Normal events: the default.
    Info,
    /// Something that a human may have to look at.
    Warn,
    /// Something that a human has to look at.
    Error,
    /// A bug that a development build would panic on.
    Dpanic,
    /// Logged just before a panic.
    Panic,
    /// Logged just before the process ends.
    Fatal,
}

impl Level {
    /// Every level, in rising order.
    pub const ALL: [Self; 7] = [
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Dpanic,
        Self::Panic,
        Self::Fatal,
    ];

    /// The name that is written and read, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Dpanic => "dpanic",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    /// The level of this name in any case; the empty name is `info`, as in etcd.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "" => Some(Self::Info),
            "warning" => Some(Self::Warn),
            name => Self::ALL.into_iter().find(|level| level.name() == name),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// One JSON object a line: the default.
    Json,
    /// Tab separated: time, level, caller, message, then the fields as a JSON object.
    Console,
}

impl Format {
    /// The format of this name; the empty name is `json`, as in etcd.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "" | "json" => Some(Self::Json),
            "console" => Some(Self::Console),
            _ => None,
        }
    }

    /// The name that is read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Console => "console",
        }
    }
}
