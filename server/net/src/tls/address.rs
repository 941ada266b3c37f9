//! Whether a member connects from where its certificate says it lives (etcd's `checkCertSAN`).

use std::net::IpAddr;

use super::hostname::verify_hostname;
use super::identity::PeerIdentity;

/// Names of a certificate that are looked up; each may wait for a name server.
const NAMES_MAX: usize = 32;

/// Checks `address` against the names of a certificate: one without names is let in, an IP address
/// in it has to be equal, a DNS name has to resolve to it, and a wildcard to match what the address
/// resolves to. Asks name servers; the caller bounds the time.
///
/// # Errors
/// None fits; the text is etcd's.
pub(super) async fn verify_address(identity: &PeerIdentity, address: IpAddr) -> Result<(), String> {
    let address = address.to_canonical();
    if identity.ip_addresses.is_empty() && identity.dns_names.is_empty() {
        return Ok(());
    }
    if !identity.ip_addresses.is_empty() {
        match verify_hostname(identity, &address.to_string()) {
            Ok(()) => return Ok(()),
            Err(error) if identity.dns_names.is_empty() => return Err(error.to_string()),
            Err(_) => {}
        }
    }
    let lives_there = by_reverse_lookup(&identity.dns_names, address).await
        || by_forward_lookup(&identity.dns_names, address).await;
    match lives_there {
        true => Ok(()),
        false => Err(format!(
            "tls: \"{address}\" does not match any of DNSNames {:?}",
            identity.dns_names
        )),
    }
}

async fn by_reverse_lookup(names: &[String], address: IpAddr) -> bool {
    let lookup = crate::threads::spawn_blocking(move || dns_lookup::lookup_addr(&address));
    let Ok(Ok(found)) = lookup.await else {
        return false;
    };
    let found = found.strip_suffix('.').unwrap_or(&found);
    names.iter().any(|name| match name.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') => found.ends_with(suffix),
        _ => name == found,
    })
}

async fn by_forward_lookup(names: &[String], address: IpAddr) -> bool {
    let names = names.iter().filter(|name| !name.starts_with("*."));
    for name in names.take(NAMES_MAX) {
        let Ok(mut found) = tokio::net::lookup_host((name.as_str(), 0)).await else {
            continue;
        };
        if found.any(|found| found.ip().to_canonical() == address) {
            return true;
        }
    }
    false
}
