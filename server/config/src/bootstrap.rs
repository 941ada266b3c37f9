//! What `--initial-cluster` must say before a member without data may form or join a cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::golang::quote;
use super::settings::{Config, InitialMember};
use super::url::{Address, ListenUrl};

/// Why a member without data may not start. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The cluster does not hold this member.
    #[error("couldn't find local name {} in the initial cluster configuration", quote(.0))]
    LocalNameMissing(String),
    /// Two members, or one member twice, with a URL.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// The cluster gives this member a URL that it does not advertise.
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})"
    )]
    NotAdvertised {
        /// `name=url` of each.
        missing: String,
        /// What is advertised.
        advertised: String,
        /// Why the two lists are not the same under other names.
        reason: String,
    },
    /// This member advertises a URL that the cluster does not give it.
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={initial}"
    )]
    NotInCluster {
        /// The URLs.
        missing: String,
        /// `name=url` of each that the cluster gives it.
        initial: String,
    },
    /// A cluster that is to be discovered cannot be joined by name.
    #[error("discovery URL should not be set when joining existing initial cluster")]
    DiscoveryWhileJoining,
}

impl Config {
    /// Checks what must hold before this member forms a cluster. `resolve` gives the first address
    /// of a host name; it is asked only where the texts of the URLs differ.
    ///
    /// # Errors
    /// A cluster that does not hold this member with exactly its advertised peer URLs.
    pub fn verify_bootstrap(
        &self,
        resolve: &dyn Fn(&str) -> Option<IpAddr>,
    ) -> Result<(), BootstrapError> {
        let local = self.local_member()?;
        self.check_duplicates()?;
        self.check_advertised(local, resolve)
    }

    /// Checks what must hold before this member joins a cluster.
    ///
    /// # Errors
    /// A cluster that does not hold this member, or that holds a URL twice.
    pub fn verify_join_existing(&self) -> Result<(), BootstrapError> {
        self.local_member()?;
        self.check_duplicates()?;
        if self.cluster.discovery.endpoints.is_empty() {
            return Ok(());
        }
        Err(BootstrapError::DiscoveryWhileJoining)
    }

    fn local_member(&self) -> Result<&InitialMember, BootstrapError> {
        let local = self
            .cluster
            .initial
            .iter()
            .find(|member| member.name == self.name);
        local.ok_or_else(|| BootstrapError::LocalNameMissing(self.name.clone()))
    }

    fn check_duplicates(&self) -> Result<(), BootstrapError> {
        let mut seen = BTreeSet::new();
        let mut urls = self
            .cluster
            .initial
            .iter()
            .flat_map(|member| &member.peer_urls);
        if urls.all(|url| seen.insert(url)) {
            return Ok(());
        }
        let shown = self.cluster.initial.iter().flat_map(describe);
        Err(BootstrapError::DuplicateUrl(
            shown.collect::<Vec<_>>().join(","),
        ))
    }

    fn check_advertised(
        &self,
        local: &InitialMember,
        resolve: &dyn Fn(&str) -> Option<IpAddr>,
    ) -> Result<(), BootstrapError> {
        let (advertised, initial) = (&self.advertise.peer, &local.peer_urls);
        if advertised == initial || resolved(advertised, resolve) == resolved(initial, resolve) {
            return Ok(());
        }
        let reason = format!("{} != {}", list(advertised), list(initial));
        let missing: Vec<String> = difference(initial, advertised)
            .map(|url| format!("{}={url}", self.name))
            .collect();
        if !missing.is_empty() {
            return Err(BootstrapError::NotAdvertised {
                missing: missing.join(","),
                advertised: list(advertised),
                reason,
            });
        }
        let missing: Vec<String> = difference(advertised, initial)
            .map(ListenUrl::to_string)
            .collect();
        let initial = describe(local).collect::<Vec<_>>().join(",");
        Err(BootstrapError::NotInCluster {
            missing: missing.join(","),
            initial,
        })
    }
}

fn describe(member: &InitialMember) -> impl Iterator<Item = String> + '_ {
    member
        .peer_urls
        .iter()
        .map(|url| format!("{}={url}", member.name))
}

fn list(urls: &[ListenUrl]) -> String {
    urls.iter()
        .map(ListenUrl::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn difference<'a>(
    urls: &'a [ListenUrl],
    others: &'a [ListenUrl],
) -> impl Iterator<Item = &'a ListenUrl> {
    urls.iter().filter(|url| !others.contains(url))
}

/// The URLs, sorted, with names replaced by addresses where a name has one.
fn resolved(urls: &[ListenUrl], resolve: &dyn Fn(&str) -> Option<IpAddr>) -> Vec<ListenUrl> {
    let address = |url: &ListenUrl| {
        let Address::Tcp { host, port } = &url.address else {
            return url.clone();
        };
        let host = resolve(host).map_or_else(|| host.clone(), |address| address.to_string());
        ListenUrl {
            scheme: url.scheme,
            address: Address::Tcp { host, port: *port },
        }
    };
    let mut urls: Vec<ListenUrl> = urls.iter().map(address).collect();
    urls.sort();
    urls
}
