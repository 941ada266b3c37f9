//! Versions and cipher suites that both ends of a connection may choose from.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

use super::TlsError;
use crate::config::{TlsPolicy, TlsVersion};

/// The choice, in rustls' terms.
#[derive(Clone)]
pub(super) struct Choice {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
}

impl Choice {
    /// Narrows the provider to what `policy` allows. As in Go, a list of suites is one for TLS 1.2;
    /// TLS 1.3 always has all of its own, which are all good.
    ///
    /// # Errors
    /// A suite that this build does not have: every one without forward secrecy or authenticated
    /// encryption.
    pub(super) fn of(policy: &TlsPolicy) -> Result<Choice, TlsError> {
        let mut provider = aws_lc_rs::default_provider();
        if !policy.cipher_suites.is_empty() {
            let named = policy
                .cipher_suites
                .iter()
                .map(|name| find(&provider, name));
            let wanted = named.collect::<Result<Vec<CipherSuite>, TlsError>>()?;
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || wanted.contains(&suite.suite()));
        }
        Ok(Choice {
            provider: Arc::new(provider),
            versions: versions(policy),
        })
    }
}

/// Finds a suite by Go's name.
fn find(provider: &CryptoProvider, name: &str) -> Result<CipherSuite, TlsError> {
    let is_named = |suite: &&SupportedCipherSuite| go_names(suite.suite()).contains(&name);
    let found = provider.cipher_suites.iter().find(is_named);
    found
        .map(SupportedCipherSuite::suite)
        .ok_or_else(|| TlsError::CipherSuite(name.to_owned()))
}

/// etcd knows the two suites of ChaCha20 by an older name as well.
fn go_names(suite: CipherSuite) -> &'static [&'static str] {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => &["TLS_AES_128_GCM_SHA256"],
        CipherSuite::TLS13_AES_256_GCM_SHA384 => &["TLS_AES_256_GCM_SHA384"],
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => &["TLS_CHACHA20_POLY1305_SHA256"],
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => {
            &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => {
            &["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]
        }
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => &[
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        ],
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
            &["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => &[
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        ],
        _ => &[],
    }
}

fn versions(policy: &TlsPolicy) -> Vec<&'static SupportedProtocolVersion> {
    let max = policy.version_max.unwrap_or(TlsVersion::V1_3);
    let all = [
        (TlsVersion::V1_2, &rustls::version::TLS12),
        (TlsVersion::V1_3, &rustls::version::TLS13),
    ];
    let allowed = |(version, _): &(TlsVersion, _)| (policy.version_min..=max).contains(version);
    all.into_iter()
        .filter(allowed)
        .map(|(_, version)| version)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(cipher_suites: &[&str]) -> TlsPolicy {
        TlsPolicy {
            version_min: TlsVersion::V1_2,
            version_max: None,
            cipher_suites: cipher_suites.iter().map(ToString::to_string).collect(),
            self_signed_cert_validity_years: 1,
        }
    }

    #[test]
    fn every_suite_of_the_provider_has_a_name() {
        for suite in &aws_lc_rs::default_provider().cipher_suites {
            assert!(!go_names(suite.suite()).is_empty(), "{suite:?}");
        }
    }

    #[test]
    fn a_list_narrows_tls_1_2_and_leaves_tls_1_3() {
        let choice = Choice::of(&policy(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"])).unwrap();
        let suites = &choice.provider.cipher_suites;
        assert_eq!(suites.len(), 4, "{suites:?}");
        let tls12: Vec<_> = suites
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .collect();
        assert_eq!(
            tls12[0].suite(),
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        );
    }

    #[test]
    fn a_suite_that_is_not_here_is_refused_in_etcds_words() {
        let error = Choice::of(&policy(&["TLS_RSA_WITH_AES_128_CBC_SHA"])).err();
        let text = error.unwrap().to_string();
        let start = "unexpected TLS cipher suite \"TLS_RSA_WITH_AES_128_CBC_SHA\"";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn versions_keep_within_the_bounds() {
        let count = |min, max| {
            let mut policy = policy(&[]);
            (policy.version_min, policy.version_max) = (min, max);
            versions(&policy).len()
        };
        assert_eq!(count(TlsVersion::V1_2, None), 2);
        assert_eq!(count(TlsVersion::V1_3, None), 1);
        assert_eq!(count(TlsVersion::V1_2, Some(TlsVersion::V1_2)), 1);
    }
}
