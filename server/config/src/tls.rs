//! TLS: files of one side, versions and suites, and whether the listeners have what they need.
//! Nothing is read here; the files are opened by whoever listens.

use super::Notice;
use super::golang::quote;
use super::raw::Raw;
use super::settings::{Listen, TlsFiles, TlsPolicy, TlsVersion, path};
use super::url::{Address, ListenUrl};
use crate::trace::Level;

/// Every suite that etcd knows by name, the oldest and weakest included: a name outside this list
/// is a mistake. Which of them can be used is for the listener to say.
const CIPHER_SUITES: [&str; 27] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// Versions and suites, which all listeners share.
pub(super) fn tls_policy(raw: &Raw) -> Result<TlsPolicy, String> {
    let (min_text, max_text) = (raw.text("tls-min-version"), raw.text("tls-max-version"));
    let version_min = parse_version(min_text)?;
    let version_max = parse_version(max_text)?;
    if version_max.is_some() && version_min > version_max {
        return Err(format!(
            "min version ({min_text}) is greater than max version ({max_text})"
        ));
    }
    let cipher_suites = raw.list("cipher-suites").to_vec();
    if version_min == Some(TlsVersion::V1_3) && !cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    let is_known = |suite: &&String| CIPHER_SUITES.contains(&suite.as_str());
    if let Some(unknown) = cipher_suites.iter().find(|suite| !is_known(suite)) {
        return Err(format!("unexpected TLS cipher suite {}", quote(unknown)));
    }
    Ok(TlsPolicy {
        version_min: version_min.unwrap_or(TlsVersion::V1_2),
        version_max,
        cipher_suites,
        self_signed_cert_validity_years: raw.unsigned("self-signed-cert-validity"),
    })
}

fn parse_version(text: &str) -> Result<Option<TlsVersion>, String> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::V1_2)),
        "TLS1.3" => Ok(Some(TlsVersion::V1_3)),
        other => Err(format!(
            "unexpected TLS version {} (must be one of: TLS1.2, TLS1.3)",
            quote(other)
        )),
    }
}

/// The files of one side: `prefix` is empty for clients and `peer-` for members.
pub(super) fn tls_files(raw: &Raw, prefix: &str, notices: &mut Vec<Notice>) -> TlsFiles {
    let is_peer = !prefix.is_empty();
    let side = if is_peer { "peer" } else { "client" };
    let file = |name: &str| path(raw.text(&format!("{prefix}{name}")));
    let mut files = TlsFiles {
        cert: file("cert-file"),
        key: file("key-file"),
        client_cert: file("client-cert-file"),
        client_key: file("client-key-file"),
        trusted_ca: file("trusted-ca-file"),
        crl: path(raw.text(&format!("{side}-crl-file"))),
        client_cert_auth: raw.bool(&format!("{prefix}client-cert-auth")),
        allowed_common_names: raw.list(&format!("{side}-cert-allowed-cn")).to_vec(),
        allowed_hostnames: raw.list(&format!("{side}-cert-allowed-hostname")).to_vec(),
        skip_client_san_verification: is_peer && raw.bool("peer-skip-client-san-verification"),
        self_signed: false,
    };
    if raw.bool(&format!("{prefix}auto-tls")) {
        files.self_signed = files.is_empty();
        if !files.self_signed {
            let message = format!("ignoring {side} auto TLS since certs given");
            notices.push(Notice::new(Level::Warn, message));
        }
    }
    files
}

fn show(path: &Option<std::path::PathBuf>) -> String {
    path.as_ref()
        .map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// Whether each listener has the certificate it needs and none takes another's address.
pub(super) fn check_listeners(
    listen: &Listen,
    client_tls: &TlsFiles,
    peer_tls: &TlsFiles,
    notices: &mut Vec<Notice>,
) -> Result<(), String> {
    for url in &listen.peer {
        check_listener(url, peer_tls, "peer", notices)?;
        if url.scheme.is_tls() && peer_tls.is_empty() && !peer_tls.self_signed {
            return Err(format!(
                "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
                show_address(url)
            ));
        }
    }
    for url in listen.client.iter().chain(&listen.client_http) {
        check_listener(url, client_tls, "client", notices)?;
        if url.scheme.is_tls() && client_tls.is_empty() && !client_tls.self_signed {
            return Err(format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with \
                 HTTPS scheme"
            ));
        }
    }
    let is_taken = |url: &&ListenUrl| {
        listen
            .client
            .iter()
            .any(|other| other.address == url.address)
    };
    if let Some(url) = listen.client_http.iter().find(is_taken) {
        return Err(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
             {url}"
        ));
    }
    let metrics_need_tls = listen.metrics.iter().any(|url| url.scheme.is_tls());
    if metrics_need_tls && client_tls.is_empty() && !client_tls.self_signed {
        return Err(
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics \
                    secure url"
                .to_owned(),
        );
    }
    Ok(())
}

/// Half a pair of files is a mistake for a listener with TLS; files and rules that a listener
/// without TLS does not use are worth a warning.
fn check_listener(
    url: &ListenUrl,
    tls: &TlsFiles,
    side: &str,
    notices: &mut Vec<Notice>,
) -> Result<(), String> {
    if url.scheme.is_tls() {
        return check_pairs(tls);
    }
    let (key, scheme, flag) = match side {
        "peer" => ("peer-url", "HTTP", "--peer-client-cert-auth"),
        _ => ("client-url", "http or unix", "--client-cert-auth"),
    };
    let mut warn = |message: String| {
        notices.push(Notice::new(Level::Warn, message).with(key, url.to_string()));
    };
    if !tls.is_empty() || tls.self_signed {
        warn(format!(
            "scheme is {scheme} while key and cert files are present; ignoring key and cert files"
        ));
    }
    if tls.client_cert_auth {
        warn(format!(
            "scheme is {scheme} while {flag} is enabled; ignoring client cert auth for this URL"
        ));
    }
    Ok(())
}

fn check_pairs(tls: &TlsFiles) -> Result<(), String> {
    if tls.cert.is_some() != tls.key.is_some() {
        let (key, cert) = (show(&tls.key), show(&tls.cert));
        return Err(format!(
            "KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"
        ));
    }
    if tls.client_cert.is_some() != tls.client_key.is_some() {
        let (key, cert) = (show(&tls.client_key), show(&tls.client_cert));
        return Err(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, \
             cert: {cert}]"
        ));
    }
    let (names, hosts) = (&tls.allowed_common_names, &tls.allowed_hostnames);
    if !names.is_empty() && !hosts.is_empty() {
        return Err(format!(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns={}, hostnames={})",
            quote_all(names),
            quote_all(hosts)
        ));
    }
    Ok(())
}

/// As Go prints a list of strings with `%q`.
fn quote_all(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

fn show_address(url: &ListenUrl) -> String {
    match &url.address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Socket(path) => path.display().to_string(),
    }
}
