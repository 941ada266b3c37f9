//! DNS: who a cluster's members are, and where its clients go, by the SRV records of a domain.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::config::{Address, ListenUrl, Scheme};
use crate::node::identity::resolve;

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The system's configuration of DNS cannot be read.
    #[error("the system's DNS configuration: {0}")]
    System(String),
    /// No server has such records.
    #[error("lookup {name}: {why}")]
    Lookup {
        /// What was asked for.
        name: String,
        /// What came of it.
        why: String,
    },
    /// A record's service is at no address, or over another scheme than this member advertises.
    #[error("{0}")]
    Unusable(String),
}

/// Where a record says that a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The host's name, without the dot at its end.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Service {
    fn url(&self, scheme: &str) -> String {
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// The records of `_service._tcp.domain`, by priority.
///
/// # Errors
/// See [`DnsError`].
pub async fn services(
    resolver: &TokioResolver,
    service: &str,
    domain: &str,
) -> Result<Vec<Service>, DnsError> {
    let name = format!("_{service}._tcp.{domain}.");
    let name = name.replace("..", ".");
    let found = resolver.srv_lookup(name.as_str()).await;
    let found = found.map_err(|error| DnsError::Lookup {
        name: name.clone(),
        why: error.to_string(),
    })?;
    let mut records: Vec<(u16, Service)> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((
                srv.priority,
                Service {
                    host: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                    port: srv.port,
                },
            )),
            _ => None,
        })
        .collect();
    records.sort_by_key(|(priority, _)| *priority);
    Ok(records.into_iter().map(|(_, service)| service).collect())
}

/// A resolver as the system is configured.
///
/// # Errors
/// See [`DnsError`].
pub fn resolver() -> Result<TokioResolver, DnsError> {
    let built = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    built.map_err(|error| DnsError::System(error.to_string()))
}

/// The name of a service: with `-ssl` over TLS, and with a suffix where one is given.
fn service(base: &str, scheme: &str, suffix: &str) -> String {
    let tls = if scheme == "https" { "-ssl" } else { "" };
    match suffix {
        "" => format!("{base}{tls}"),
        suffix => format!("{base}{tls}-{suffix}"),
    }
}

/// The URLs where the clients of a domain's cluster go, those over TLS first.
///
/// # Errors
/// There are records neither for TLS nor without it.
pub async fn clients(
    resolver: &TokioResolver,
    domain: &str,
    suffix: &str,
) -> Result<Vec<String>, DnsError> {
    let mut urls = Vec::new();
    let mut failures = Vec::new();
    for scheme in ["https", "http"] {
        match services(resolver, &service("etcd-client", scheme, suffix), domain).await {
            Ok(found) => urls.extend(found.iter().map(|service| service.url(scheme))),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match failures.len() {
        2 => Err(DnsError::Unusable(format!(
            "dns lookup errors: {}",
            failures.join(" and ")
        ))),
        _ => Ok(urls),
    }
}

/// A cluster's members as `--initial-cluster` names them: this one, who is at one of the `advertised`
/// addresses, by its own name, the others by numbers.
///
/// # Errors
/// See [`DnsError`].
pub async fn members(
    resolver: &TokioResolver,
    domain: &str,
    suffix: &str,
    own: (&str, &[ListenUrl]),
) -> Result<String, DnsError> {
    let (name, advertised) = own;
    let own_addresses = addresses(advertised)?;
    let mut named = Vec::new();
    let mut failures = Vec::new();
    for scheme in ["https", "http"] {
        let service = service("etcd-server", scheme, suffix);
        let found = services(resolver, &service, domain).await;
        crate::log!(info, "get cluster for SRV", "service-scheme" = scheme,
            "service-name" = service.as_str(), "server-name" = name, "discovery-srv" = domain,
            "found-cluster" = ?found);
        match found {
            Ok(found) => named.extend(pairs(&found, scheme, name, &own_addresses, &mut failures)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match named.is_empty() {
        true => Err(DnsError::Unusable(failures.join("; "))),
        false => Ok(named.join(",")),
    }
}

/// `name=url` of each record that is usable.
fn pairs(
    found: &[Service],
    scheme: &str,
    name: &str,
    own: &BTreeMap<SocketAddr, Scheme>,
    failures: &mut Vec<String>,
) -> Vec<String> {
    let mut pairs = Vec::new();
    let mut others = 0;
    for service in found {
        let url = service.url(scheme);
        let Some(address) = address(&service.host, service.port) else {
            failures.push(format!("{} has no address", service.host));
            continue;
        };
        match own.get(&address) {
            None => {
                pairs.push(format!("{others}={url}"));
                others += 1;
            }
            Some(advertised) if advertised.is_tls() == (scheme == "https") => {
                pairs.push(format!("{name}={url}"));
            }
            Some(_) => failures.push(format!(
                "bootstrap at {url} from DNS has scheme mismatch with expected peer"
            )),
        }
    }
    pairs
}

fn addresses(urls: &[ListenUrl]) -> Result<BTreeMap<SocketAddr, Scheme>, DnsError> {
    let mut addresses = BTreeMap::new();
    for url in urls {
        let Address::Tcp { host, port } = &url.address else {
            continue;
        };
        let address = address(host, *port)
            .ok_or_else(|| DnsError::Unusable(format!("lookup {host}: no such host")))?;
        addresses.insert(address, url.scheme);
    }
    Ok(addresses)
}

fn address(host: &str, port: u16) -> Option<SocketAddr> {
    let address = host.parse::<IpAddr>().ok().or_else(|| resolve(host));
    address.map(|address| SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_as_etcd_names_them() {
        assert_eq!(service("etcd-server", "https", ""), "etcd-server-ssl");
        assert_eq!(service("etcd-client", "http", "a"), "etcd-client-a");
    }

    #[test]
    fn a_member_knows_its_own_record() {
        let url = |text| ListenUrl::parse(text).expect("a URL");
        let own = addresses(&[url("http://127.0.0.1:2380")]).expect("addresses");
        let found = ["127.0.0.2", "127.0.0.1", "127.0.0.3"].map(|host| Service {
            host: host.to_owned(),
            port: 2380,
        });
        let mut failures = Vec::new();
        assert_eq!(
            pairs(&found, "http", "me", &own, &mut failures),
            [
                "0=http://127.0.0.2:2380",
                "me=http://127.0.0.1:2380",
                "1=http://127.0.0.3:2380"
            ]
        );
        let over_tls = pairs(&found[1..2], "https", "me", &own, &mut failures);
        assert!(over_tls.is_empty());
        assert_eq!(failures.len(), 1, "{failures:?}");
    }
}
