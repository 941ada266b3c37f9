//! What the operator is told when it starts: flags, each with an environment variable.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What `--help` prints.
pub const USAGE: &str = "\
Usage:
  engram-operator run     [--flag=value ...]   runs the operator
  engram-operator crdgen  DIRECTORY            writes the CRDs as YAML
  engram-operator version

Flags of run (or the environment variable in brackets):
  --image=IMAGE               image of members and of backup pods [ENGRAM_IMAGE]
  --watch-namespace=NAME,..   the namespaces to look after; default all [WATCH_NAMESPACE]
  --namespace=NAME            where the operator runs, for its Lease [POD_NAMESPACE]
  --lease-name=NAME           that Lease, default engram-operator [LEASE_NAME]
  --identity=NAME             who this is among the operator's replicas [POD_NAME]
  --listen=ADDRESS            metrics and health, default [::]:8080, which is IPv4's as well
                              [LISTEN]
  --concurrency=N             objects of a kind looked after at once, default 8 [CONCURRENCY]
  --rolling-clusters=N        clusters that take up an upgrade of the operator at once, default 2
                              [ROLLING_CLUSTERS]
  --leader-election=BOOL      whether replicas elect one that works, default true [LEADER_ELECTION]
";

/// What the operator is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image of members that name none, and of backup pods.
    pub image: String,
    /// The namespaces to look after, each once; none: all.
    pub watch_namespaces: Vec<String>,
    /// Where the operator runs.
    pub namespace: String,
    /// The Lease by which replicas elect the one that works: theirs, and no other installation's.
    pub lease_name: String,
    /// Who this is among the operator's replicas.
    pub identity: String,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// Objects of a kind looked after at once (1 to 64).
    pub concurrency: u16,
    /// Clusters that take up at once what an upgrade of the operator brings (1 to 1000).
    pub rolling_clusters: u16,
    /// Whether replicas elect one that works.
    pub leader_election: bool,
}

/// The image of this version.
fn default_image() -> String {
    format!("ghcr.io/engram-dev/engram:{}", env!("CARGO_PKG_VERSION"))
}

/// A flag that is not one, or whose value is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No such flag.
    #[error("unknown argument {0:?}: see engram-operator --help")]
    Unknown(String),
    /// A value that does not fit.
    #[error("--{flag}: {value:?} is not {expected}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

const FLAGS: [(&str, &str); 9] = [
    ("image", "ENGRAM_IMAGE"),
    ("watch-namespace", "WATCH_NAMESPACE"),
    ("namespace", "POD_NAMESPACE"),
    ("lease-name", "LEASE_NAME"),
    ("identity", "POD_NAME"),
    ("listen", "LISTEN"),
    ("concurrency", "CONCURRENCY"),
    ("rolling-clusters", "ROLLING_CLUSTERS"),
    ("leader-election", "LEADER_ELECTION"),
];

impl Settings {
    /// Which installation of the operator this is: all of its replicas have one Lease.
    #[must_use]
    pub fn installation(&self) -> String {
        format!("{}/{}", self.namespace, self.lease_name)
    }

    /// Reads flags, then the environment for what no flag names. Empty is the same as not given.
    ///
    /// # Errors
    /// An unknown flag, or a value that does not fit.
    pub fn parse(
        arguments: impl Iterator<Item = String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut given: BTreeMap<&'static str, String> = BTreeMap::new();
        for (flag, variable) in FLAGS {
            given.extend(environment(variable).map(|value| (flag, value)));
        }
        for argument in arguments {
            let pair = argument
                .strip_prefix("--")
                .and_then(|pair| pair.split_once('='));
            let known = pair.and_then(|(name, value)| {
                FLAGS
                    .iter()
                    .find(|(flag, _)| *flag == name)
                    .map(|(flag, _)| (*flag, value))
            });
            let (flag, value) = known.ok_or_else(|| SettingsError::Unknown(argument.clone()))?;
            given.insert(flag, value.to_owned());
        }
        let mut take = |flag| {
            given
                .remove(flag)
                .filter(|value: &String| !value.is_empty())
        };
        Ok(Self {
            image: take("image").unwrap_or_else(default_image),
            watch_namespaces: names(&take("watch-namespace").unwrap_or_default()),
            namespace: take("namespace").unwrap_or_else(|| "default".into()),
            lease_name: take("lease-name").unwrap_or_else(|| "engram-operator".into()),
            identity: take("identity")
                .unwrap_or_else(|| format!("operator-{}", std::process::id())),
            listen: read("listen", take("listen"), "[::]:8080", "an address and port")?,
            concurrency: read::<u16>("concurrency", take("concurrency"), "8", "a number")?
                .clamp(1, 64),
            rolling_clusters: read::<u16>(
                "rolling-clusters",
                take("rolling-clusters"),
                "2",
                "a number",
            )?
            .clamp(1, 1000),
            leader_election: read(
                "leader-election",
                take("leader-election"),
                "true",
                "true or false",
            )?,
        })
    }
}

/// Names with commas between them.
fn names(text: &str) -> Vec<String> {
    let all = text.split(',').map(str::trim);
    let all: BTreeSet<&str> = all.filter(|name| !name.is_empty()).collect();
    all.into_iter().map(str::to_owned).collect()
}

fn read<T: std::str::FromStr>(
    flag: &'static str,
    value: Option<String>,
    default: &str,
    expected: &'static str,
) -> Result<T, SettingsError> {
    let value = value.unwrap_or_else(|| default.to_owned());
    value.parse().map_err(|_| SettingsError::Value {
        flag,
        value,
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(
        arguments: &[&str],
        variable: Option<(&str, &str)>,
    ) -> Result<Settings, SettingsError> {
        let environment = |name: &str| {
            variable
                .filter(|(key, _)| *key == name)
                .map(|v| v.1.to_owned())
        };
        Settings::parse(arguments.iter().map(|&text| text.to_owned()), environment)
    }

    #[test]
    fn flags_come_before_the_environment_and_mistakes_are_named() {
        let several = Some(("WATCH_NAMESPACE", "data, apps,data,"));
        let settings = parse(&["--concurrency=2"], several).unwrap();
        assert_eq!(settings.concurrency, 2);
        assert_eq!(settings.watch_namespaces, ["apps", "data"]);
        let settings = parse(&["--image=a:1"], Some(("ENGRAM_IMAGE", "b:2"))).unwrap();
        assert_eq!(
            (settings.image.as_str(), settings.leader_election),
            ("a:1", true)
        );
        assert!(parse(&["--nonsense=1"], None).is_err());
        let error = parse(&["--listen=8080"], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--listen: \"8080\" is not an address and port"
        );
    }
}
