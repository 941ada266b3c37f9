//! Feature gates: etcd's names, defaults and stages, set by `--feature-gates Name=bool,…`.

use std::collections::{BTreeMap, BTreeSet};

use super::golang::parse_bool;

/// How ripe a feature is. Shown in help and in the metric `etcd_server_feature_enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Off unless asked for.
    Alpha,
    /// On unless refused.
    Beta,
}

impl Stage {
    /// The name as etcd spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }

    /// The gate that stands for every gate of this stage.
    const fn all_gate(self) -> &'static str {
        match self {
            Self::Alpha => "AllAlpha",
            Self::Beta => "AllBeta",
        }
    }
}

/// Every gate of etcd 3.7 in the order of names: name, stage, default.
const GATES: [(&str, Stage, bool); 11] = [
    ("AllAlpha", Stage::Alpha, false),
    ("AllBeta", Stage::Beta, false),
    ("CompactHashCheck", Stage::Alpha, false),
    ("FastLeaseKeepAlive", Stage::Beta, true),
    ("InitialCorruptCheck", Stage::Alpha, false),
    ("LeaseCheckpoint", Stage::Alpha, false),
    ("LeaseCheckpointPersist", Stage::Alpha, false),
    ("PriorityRequest", Stage::Alpha, false),
    ("SetMemberLocalAddr", Stage::Alpha, false),
    ("StopGRPCServiceOnDefrag", Stage::Alpha, false),
    ("TxnModeWriteWithSharedBuffer", Stage::Beta, true),
];

/// The gates whose feature is here, and which stand for one.
const USED: [&str; 4] = [
    "AllAlpha",
    "AllBeta",
    "CompactHashCheck",
    "InitialCorruptCheck",
];

/// Which gates are on. Gates that were not set have their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    set: BTreeMap<&'static str, bool>,
    /// Those that were set by name, not by the gate of their stage.
    named: BTreeSet<&'static str>,
}

impl FeatureGates {
    /// Whether the gate is on.
    ///
    /// # Panics
    /// If etcd has no gate of this name: that is a typing error in our source.
    #[must_use]
    pub fn enabled(&self, name: &str) -> bool {
        let (name, _, default) = find(name).expect("only gates that etcd has are asked for");
        self.set.get(name).copied().unwrap_or(default)
    }

    /// Every gate in the order of names, with its stage and whether it is on.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Stage, bool)> + '_ {
        GATES
            .into_iter()
            .map(|(name, stage, _)| (name, stage, self.enabled(name)))
    }

    /// The gates that were set, as `Name=bool,…`.
    #[must_use]
    pub fn describe_set(&self) -> String {
        let pairs: Vec<String> = self
            .set
            .iter()
            .map(|(name, on)| format!("{name}={on}"))
            .collect();
        pairs.join(",")
    }

    /// The gates that were set by name and whose feature is not here, in the order of names.
    pub(super) fn set_without_effect(&self) -> impl Iterator<Item = &'static str> + '_ {
        let named = self.named.iter().copied();
        named.filter(|name| !USED.contains(name))
    }

    /// The lines that help shows.
    pub(super) fn describe_known() -> impl Iterator<Item = String> {
        GATES.into_iter().map(|(name, stage, default)| {
            format!("{name}=true|false ({} - default={default})", stage.name())
        })
    }

    /// Applies `Name=bool,…` on top of what is set. `AllAlpha` and `AllBeta` set the gates of
    /// their stage that nothing has set by name. Nothing is changed by a text that has an error.
    pub(super) fn set(&mut self, text: &str) -> Result<(), String> {
        let mut asked = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(format!("missing bool value for {}", pair.trim())),
            };
            let on = parse_bool(value).ok_or_else(|| {
                let reason = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
                format!("invalid value of {name}={value}, err: {reason}")
            })?;
            asked.insert(name, on);
        }
        let (mut set, mut named) = (self.set.clone(), self.named.clone());
        for (&name, &on) in &asked {
            let (name, _, _) =
                find(name).ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
            set.insert(name, on);
            named.insert(name);
        }
        for stage in [Stage::Alpha, Stage::Beta] {
            if let Some(&on) = asked.get(stage.all_gate()) {
                set_unset(&mut set, stage, on);
            }
        }
        (self.set, self.named) = (set, named);
        Ok(())
    }
}

fn find(name: &str) -> Option<(&'static str, Stage, bool)> {
    GATES.into_iter().find(|&(known, _, _)| known == name)
}

fn set_unset(set: &mut BTreeMap<&'static str, bool>, stage: Stage, on: bool) {
    for (name, gate_stage, _) in GATES {
        if gate_stage == stage {
            set.entry(name).or_insert(on);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(texts: &[&str]) -> FeatureGates {
        let mut gates = FeatureGates::default();
        for text in texts {
            gates.set(text).unwrap();
        }
        gates
    }

    #[test]
    fn defaults_are_etcds() {
        let on: Vec<&str> = FeatureGates::default()
            .all()
            .filter_map(|(name, _, on)| on.then_some(name))
            .collect();
        assert_eq!(on, ["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"]);
    }

    #[test]
    fn a_gate_set_by_name_wins_over_the_gate_of_its_stage() {
        let gates = gates(&["AllAlpha=true,PriorityRequest=false,AllBeta=0"]);
        assert!(gates.enabled("InitialCorruptCheck"));
        assert!(!gates.enabled("PriorityRequest"));
        assert!(!gates.enabled("FastLeaseKeepAlive"));
    }

    #[test]
    fn repeated_settings_add_up() {
        let gates = gates(&["InitialCorruptCheck=true", " CompactHashCheck = t ,", ""]);
        assert!(gates.enabled("InitialCorruptCheck"));
        assert!(gates.enabled("CompactHashCheck"));
        assert_eq!(
            gates.describe_set(),
            "CompactHashCheck=true,InitialCorruptCheck=true"
        );
    }

    #[test]
    fn errors_have_etcds_text_and_change_nothing() {
        let table = [
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("LeaseCheckpoint", "missing bool value for LeaseCheckpoint"),
            (
                "LeaseCheckpoint=yes",
                "invalid value of LeaseCheckpoint=yes, err: strconv.ParseBool: parsing \"yes\": \
                 invalid syntax",
            ),
            (
                "PriorityRequest=true,Nope=true",
                "unrecognized feature gate: Nope",
            ),
        ];
        for (text, want) in table {
            let mut gates = FeatureGates::default();
            assert_eq!(gates.set(text), Err(want.to_owned()));
            assert_eq!(gates, FeatureGates::default());
        }
    }
}
