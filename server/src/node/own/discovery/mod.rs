//! A cluster that is found rather than named: by the SRV records of a domain ([`dns`]), or at another
//! cluster that keeps a registry of those that begin ([`registry`]). Asked once, by a member that has
//! no identity yet.

pub mod dns;
mod registry;

use crate::config::{Config, Discovery, InitialMember, ListenUrl, UrlError, initial_cluster};
use crate::node::identity;

/// Why no cluster was found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The records say nothing of use.
    #[error("error setting up initial cluster: {0}")]
    Dns(#[from] dns::DnsError),
    /// The records name others alone.
    #[error("cannot find local etcd member {0:?} in SRV records")]
    NotInRecords(String),
    /// The registry lets this member not in.
    #[error("failed to join discovery cluster (discovery: {0})")]
    Registry(#[from] registry::RegistryError),
    /// What was found names no cluster.
    #[error("error setting up initial cluster: {0}")]
    Unreadable(#[from] UrlError),
    /// The system has no room for a runtime.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The settings with the cluster that was found; none where nobody asks for one to be found.
///
/// # Errors
/// See [`DiscoveryError`].
pub fn settle(config: &Config) -> Result<Option<Config>, DiscoveryError> {
    let discovery = &config.cluster.discovery;
    if !discovery.is_asked_for() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match discovery.srv_domain.is_empty() {
        true => runtime.block_on(by_registry(config)),
        false => runtime.block_on(by_records(config)),
    }
    .map(Some)
}

async fn by_records(config: &Config) -> Result<Config, DiscoveryError> {
    let discovery = &config.cluster.discovery;
    let own = (config.name.as_str(), &config.advertise.peer[..]);
    let resolver = dns::resolver()?;
    let members = dns::members(&resolver, &discovery.srv_domain, &discovery.srv_name, own);
    let initial = initial_cluster(&members.await?)?;
    if !initial.iter().any(|member| member.name == config.name) {
        return Err(DiscoveryError::NotInRecords(config.name.clone()));
    }
    Ok(with_initial(config, initial))
}

async fn by_registry(config: &Config) -> Result<Config, DiscoveryError> {
    // The id is that of a cluster of this member alone, under the registry's token.
    let alone = InitialMember {
        name: config.name.clone(),
        peer_urls: config.advertise.peer.clone(),
    };
    let mut alone = with_initial(config, vec![alone]);
    alone.cluster.token = config.cluster.discovery.token.clone();
    let id = identity::own_id(&alone);
    let urls = config.advertise.peer.iter().map(ListenUrl::to_string);
    let own: Vec<String> = urls.map(|url| format!("{}={url}", config.name)).collect();
    let (discovery, policy) = (&config.cluster.discovery, &config.tls_policy);
    crate::log!(info, "Bootstrapping cluster using v3 discovery.");
    let joined = registry::join(discovery, policy, id, &own.join(",")).await;
    let joined = joined.and_then(|members| match initial_cluster(&members) {
        Ok(initial) => Ok((members, initial)),
        Err(_) => Err(registry::RegistryError::InvalidUrl),
    });
    let (members, initial) = joined.inspect_err(|error| tell_refused(discovery, error))?;
    crate::log!(
        info,
        "discovery joined cluster successfully",
        cluster = members
    );
    Ok(with_initial(&alone, initial))
}

/// Says in etcd's lines that the registry let this member not in.
fn tell_refused(discovery: &Discovery, error: &registry::RegistryError) {
    let error = format!("discovery: {error}");
    let (token, endpoints) = (&discovery.token, discovery.endpoints.join(","));
    crate::log!(
        error,
        "discovery failed to join cluster",
        "discovery-token" = token.as_str(),
        "discovery-endpoints" = endpoints.as_str(),
        error = error.as_str()
    );
    crate::log!(
        warn,
        "failed to bootstrap; discovery token was already used",
        "discovery-token" = token.as_str(),
        "discovery-endpoints" = endpoints,
        error = error
    );
    crate::log!(
        warn,
        "do not reuse discovery token; generate a new one to bootstrap a cluster"
    );
}

fn with_initial(config: &Config, initial: Vec<InitialMember>) -> Config {
    let mut config = config.clone();
    config.cluster.initial = initial;
    config.cluster.initial_follows_name = false;
    config
}
