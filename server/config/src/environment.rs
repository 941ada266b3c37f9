//! Settings from the environment: `ETCD_<FLAG>` as etcd reads it, and `ENGRAM_<FLAG>`, which wins.
//!
//! A variable whose flag is also on the command line is a mistake that etcd refuses to start with,
//! and so does this. A variable with one of the prefixes that names no flag is only reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::golang::quote;
use super::raw::Raw;
use super::table::{FlagSpec, flags};
use super::{Failure, Notice};
use crate::trace::Level;

const ENGRAM: &str = "ENGRAM";
const ETCD: &str = "ETCD";
/// Flags whose value is not to appear in the log.
const SECRET_FLAGS: [&str; 2] = ["discovery-password", "discovery-user"];

const CONFLICT: &str = "conflicting environment variable is shadowed by corresponding command-line \
                        flag (either unset environment variable or disable flag))";

/// The variables that have one of our prefixes.
#[derive(Debug)]
pub(super) struct Environment {
    /// `None` for a value that is not UTF-8.
    variables: BTreeMap<String, Option<String>>,
}

impl Environment {
    pub(super) fn new(env: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut variables = BTreeMap::new();
        for (key, value) in env {
            let Ok(key) = key.into_string() else { continue };
            let ours = [ENGRAM, ETCD].iter().any(|prefix| {
                key.strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('_'))
            });
            if ours {
                variables.entry(key).or_insert(value.into_string().ok());
            }
        }
        Self { variables }
    }

    /// The config file that the environment names.
    pub(super) fn config_file(&self) -> Option<&str> {
        let path = |variable: &str| self.variables.get(variable)?.as_deref();
        let named = |variable| path(variable).filter(|path| !path.is_empty());
        named("ENGRAM_CONFIG_FILE").or_else(|| named("ETCD_CONFIG_FILE"))
    }

    /// Sets every flag that has a variable and was not given on the command line.
    pub(super) fn apply(&self, raw: &mut Raw, notices: &mut Vec<Notice>) -> Result<(), Failure> {
        let mut specs: Vec<&FlagSpec> = flags().filter(|spec| spec.name != "version").collect();
        specs.sort_by_key(|spec| spec.name);
        self.refuse_conflicts(raw, &specs)?;
        let mut used = self.refuse_version_variables(notices);
        let mut failure = None;
        for spec in specs {
            if let Err(error) = self.apply_to(spec, raw, &mut used, notices) {
                failure = Some(error);
            }
        }
        for variable in self
            .variables
            .keys()
            .filter(|variable| !used.contains(*variable))
        {
            let notice = Notice::new(Level::Warn, "unrecognized environment variable")
                .with("environment-variable", variable);
            notices.push(notice);
        }
        match failure {
            None => Ok(()),
            Some(message) => {
                let failure = Failure::verify(message);
                notices.extend(failure.notices.iter().cloned());
                Err(Failure {
                    notices: std::mem::take(notices),
                    ..failure
                })
            }
        }
    }

    /// A variable that is set, even to nothing, beside its flag.
    fn refuse_conflicts(&self, raw: &Raw, specs: &[&FlagSpec]) -> Result<(), Failure> {
        for spec in specs.iter().filter(|spec| raw.is_given(spec.name)) {
            for variable in [spec.variable(ENGRAM), spec.variable(ETCD)] {
                if !self.variables.contains_key(&variable) {
                    continue;
                }
                let notice = Notice::new(Level::Fatal, CONFLICT)
                    .with("environment-variable", variable.clone());
                return Err(Failure {
                    message: format!("{CONFLICT}: {variable}"),
                    text: None,
                    notices: vec![notice],
                    exit_code: 1,
                });
            }
        }
        Ok(())
    }

    /// `ETCD_VERSION` is common in images and would ask for the version.
    fn refuse_version_variables(&self, notices: &mut Vec<Notice>) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for variable in ["ENGRAM_VERSION", "ETCD_VERSION"] {
            let Some(value) = self.variables.get(variable) else {
                continue;
            };
            let value = value.clone().unwrap_or_default();
            if value.is_empty() {
                continue;
            }
            used.insert(variable.to_owned());
            let notice = Notice::new(Level::Warn, "cannot set special environment variable");
            notices.push(notice.with("key", variable).with("value", value));
        }
        used
    }

    fn apply_to(
        &self,
        spec: &FlagSpec,
        raw: &mut Raw,
        used: &mut BTreeSet<String>,
        notices: &mut Vec<Notice>,
    ) -> Result<(), String> {
        let mut winner: Option<String> = None;
        for variable in [spec.variable(ENGRAM), spec.variable(ETCD)] {
            let value = match self.variables.get(&variable) {
                None => continue,
                Some(None) => return Err(format!("the value of {variable} is not UTF-8")),
                Some(Some(value)) if value.is_empty() => continue,
                Some(Some(value)) => value,
            };
            used.insert(variable.clone());
            if let Some(winner) = &winner {
                let notice =
                    Notice::new(Level::Warn, "environment variable is shadowed by another");
                notices.push(notice.with("shadowed", variable).with("used", winner));
                continue;
            }
            raw.set(spec.name, value).map_err(|reason| {
                format!("invalid value {} for {variable}: {reason}", quote(value))
            })?;
            let secret = SECRET_FLAGS.contains(&spec.name);
            let shown = if secret { "<redacted>" } else { value.as_str() };
            let notice = Notice::new(Level::Info, "recognized and used environment variable")
                .with("variable-name", &variable)
                .with("variable-value", shown);
            notices.push(notice);
            winner = Some(variable);
        }
        Ok(())
    }
}
