//! Whether a certificate is one for a host, by the rules of Go's `VerifyHostname`, which etcd
//! applies to `--…-allowed-hostname` and to the addresses of members.

use std::net::IpAddr;

use super::identity::PeerIdentity;

/// A certificate of somebody else. The texts are Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// There is no IP address in it.
    #[error("x509: cannot validate certificate for {0} because it doesn't contain any IP SANs")]
    NoAddresses(String),
    /// There is no DNS name in it.
    #[error("x509: certificate is not valid for any names, but wanted to match {0}")]
    NoNames(String),
    /// It has other names.
    #[error("x509: certificate is valid for {names}, not {host}")]
    Others {
        /// What it has.
        names: String,
        /// What was looked for.
        host: String,
    },
}

/// Checks that `identity` holds `host`: an IP address among its addresses, a name among its DNS
/// names, where `*` may stand for the first label. The common name does not count.
///
/// # Errors
/// It does not; the error says what it holds.
pub fn verify_hostname(identity: &PeerIdentity, host: &str) -> Result<(), HostnameError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bare.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) => verify_address(identity, address),
        Err(_) => verify_name(identity, host),
    }
}

fn verify_address(identity: &PeerIdentity, address: IpAddr) -> Result<(), HostnameError> {
    let address = address.to_canonical();
    let mut held = identity.ip_addresses.iter();
    if held.any(|held| held.to_canonical() == address) {
        return Ok(());
    }
    if identity.ip_addresses.is_empty() {
        return Err(HostnameError::NoAddresses(address.to_string()));
    }
    Err(HostnameError::Others {
        names: joined(&identity.ip_addresses),
        host: address.to_string(),
    })
}

fn verify_name(identity: &PeerIdentity, host: &str) -> Result<(), HostnameError> {
    let wanted = host.to_ascii_lowercase();
    let is_wanted = |pattern: &String| matches(&pattern.to_ascii_lowercase(), &wanted);
    if identity.dns_names.iter().any(is_wanted) {
        return Ok(());
    }
    if identity.dns_names.is_empty() {
        return Err(HostnameError::NoNames(host.to_owned()));
    }
    Err(HostnameError::Others {
        names: joined(&identity.dns_names),
        host: host.to_owned(),
    })
}

fn joined<T: ToString>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(T::to_string).collect();
    names.join(", ")
}

/// Both in lower case.
fn matches(pattern: &str, host: &str) -> bool {
    if !is_name(pattern, true) || !is_name(host, false) {
        return !host.is_empty() && host != "." && pattern == host;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let (pattern, host): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    if pattern.len() != host.len() {
        return false;
    }
    let is_any = |at: usize, label: &str| at == 0 && label == "*";
    let mut labels = pattern.iter().zip(&host).enumerate();
    labels.all(|(at, (wanted, found))| is_any(at, wanted) || wanted == found)
}

/// Whether `text` is a host name, in the wide sense that Go allows (underscores); as a pattern, `*`
/// may be its first label.
fn is_name(text: &str, as_pattern: bool) -> bool {
    let text = match as_pattern {
        true => text,
        false => text.strip_suffix('.').unwrap_or(text),
    };
    let is_label = |(at, label): (usize, &str)| {
        let wildcard = as_pattern && at == 0 && label == "*";
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte);
        wildcard || (!label.is_empty() && !label.starts_with('-') && label.bytes().all(letters))
    };
    !text.is_empty() && text != "*" && text.split('.').enumerate().all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(dns_names: &[&str], ip_addresses: &[&str]) -> PeerIdentity {
        PeerIdentity {
            common_name: "not.looked.at".into(),
            dns_names: dns_names.iter().map(ToString::to_string).collect(),
            ip_addresses: ip_addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            uris: Vec::new(),
            serial: vec![1],
            fingerprint: [0; 32],
        }
    }

    #[test]
    fn names_are_matched_as_in_go() {
        let cases = [
            ("node1.example.com", "node1.example.com", true),
            ("Node1.Example.com", "nODE1.eXAMPLE.COM", true),
            ("node1.example.com", "node1.example.com.", true),
            ("*.example.com", "node1.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("a.*.com", "a.example.com", false),
            ("n*.example.com", "node1.example.com", false),
            ("*", "host", false),
            ("", "", false),
            ("a_b.example", "a_b.example", true),
        ];
        for (pattern, host, expected) in cases {
            let found = verify_hostname(&identity(&[pattern], &[]), host);
            assert_eq!(found.is_ok(), expected, "{pattern} and {host}: {found:?}");
        }
        let common_name_only = verify_hostname(&identity(&[], &[]), "not.looked.at");
        assert!(common_name_only.is_err());
    }

    #[test]
    fn addresses_are_matched_as_in_go_and_the_texts_are_its() {
        let both = identity(&["node1"], &["127.0.0.1", "::1"]);
        for host in ["127.0.0.1", "::1", "[::1]", "::ffff:127.0.0.1", "node1"] {
            assert_eq!(verify_hostname(&both, host), Ok(()), "{host}");
        }
        let text = |identity: &PeerIdentity, host: &str| {
            verify_hostname(identity, host).unwrap_err().to_string()
        };
        assert_eq!(
            text(&identity(&[], &["127.0.0.1"]), "10.0.0.7"),
            "x509: certificate is valid for 127.0.0.1, not 10.0.0.7"
        );
        assert_eq!(
            text(&identity(&["a"], &[]), "10.0.0.7"),
            "x509: cannot validate certificate for 10.0.0.7 because it doesn't contain any IP SANs"
        );
        assert_eq!(
            text(&both, "node2"),
            "x509: certificate is valid for node1, not node2"
        );
    }
}
