//! TLS as the flags ask for it: what listeners accept with, and what connects to other members.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::config::{Config, ListenUrl, TlsFiles};
use crate::net::tls::{Acceptor, Connector, Side, TlsError, self_signed};
use crate::peer::{BoxedIo, Dial};

#[cfg(test)]
mod tests;

/// Where certificates are that this member made itself, in its data directory, as in etcd.
pub const FIXTURES_DIR: &str = "fixtures";
/// The label of connections that this member makes to others.
const OUTGOING: &str = "peer-client";

/// Both sides of TLS. Files are read once here, and again when they change.
pub struct Tls {
    /// For clients' and metrics' listeners, if one of their URLs has TLS.
    pub client: Option<Acceptor>,
    /// For other members' connections, if a peer URL has TLS.
    pub peer: Option<Acceptor>,
    /// For connections to other members.
    pub connector: Connector,
}

impl Tls {
    /// Reads the files that listeners and connections need, and makes certificates where they are
    /// asked for. The data directory has to be this process's already.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn open(config: &Config) -> Result<Tls, TlsError> {
        Ok(Tls {
            client: client(config)?,
            peer: peer_acceptor(config)?,
            connector: connector(config)?,
        })
    }

    /// How other members are connected to.
    pub fn dial(&self) -> Arc<dyn Dial> {
        Arc::new(PeerDial(self.connector.clone()))
    }

    /// Registers what is measured of the acceptors.
    pub fn register(&self, registry: &Registry) {
        let acceptors = self.client.iter().chain(&self.peer).cloned().collect();
        let measured = Measured::of(acceptors, self.connector.clone());
        let registered = registry.register(Box::new(measured));
        registered.expect("the names are used nowhere else");
    }
}

fn client(config: &Config) -> Result<Option<Acceptor>, TlsError> {
    let listen = &config.listen;
    let urls = || listen.client.iter().chain(&listen.client_http);
    if !urls().chain(&listen.metrics).any(has_tls) {
        return Ok(None);
    }
    let files = with_certificate(config, &config.client_tls, Side::Client, urls())?;
    crate::log!(info, "starting with client TLS", "tls-info" = show(&files));
    Acceptor::new(Side::Client, &files, &config.tls_policy).map(Some)
}

fn peer_acceptor(config: &Config) -> Result<Option<Acceptor>, TlsError> {
    if !config.listen.peer.iter().any(has_tls) {
        return Ok(None);
    }
    let files = with_certificate(config, &config.peer_tls, Side::Peer, &config.listen.peer)?;
    crate::log!(info, "starting with peer TLS", "tls-info" = show(&files));
    Acceptor::new(Side::Peer, &files, &config.tls_policy).map(Some)
}

fn connector(config: &Config) -> Result<Connector, TlsError> {
    let files = &config.peer_tls;
    let members = config.cluster.initial.iter();
    let mut urls = members.flat_map(|member| &member.peer_urls);
    if *files == TlsFiles::default() && !urls.any(has_tls) {
        return Ok(Connector::plain());
    }
    let files = with_certificate(config, files, Side::Peer, &config.listen.peer)?;
    Connector::new(Side::Peer, &files, &config.tls_policy)
}

fn has_tls(url: &ListenUrl) -> bool {
    url.scheme.is_tls()
}

/// The files with a certificate of our own in them, if one is asked for.
fn with_certificate<'a>(
    config: &Config,
    files: &TlsFiles,
    side: Side,
    urls: impl IntoIterator<Item = &'a ListenUrl>,
) -> Result<TlsFiles, TlsError> {
    if !files.self_signed {
        return Ok(files.clone());
    }
    let hosts: Vec<String> = urls
        .into_iter()
        .filter_map(ListenUrl::host)
        .map(str::to_owned)
        .collect();
    let directory = config.data_dir.join(FIXTURES_DIR).join(side.name());
    let years = config.tls_policy.self_signed_cert_validity_years;
    let made = self_signed(&directory, &hosts, years)?;
    Ok(TlsFiles {
        cert: Some(made.certificate),
        key: Some(made.key),
        client_cert: None,
        client_key: None,
        ..files.clone()
    })
}

/// What etcd's log says of them.
fn show(files: &TlsFiles) -> String {
    let path = |path: &Option<std::path::PathBuf>| {
        let path = path.as_deref().unwrap_or(Path::new(""));
        path.display().to_string()
    };
    format!(
        "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
        path(&files.cert),
        path(&files.key),
        path(&files.client_cert),
        path(&files.client_key),
        path(&files.trusted_ca),
        files.client_cert_auth,
        path(&files.crl),
    )
}

/// What is measured of acceptors, read when it is asked for.
struct Measured {
    acceptors: Vec<Acceptor>,
    connector: Connector,
    ends: IntGaugeVec,
    handshakes_failed: IntCounterVec,
    reloads_failed: IntCounterVec,
}

impl Measured {
    fn of(acceptors: Vec<Acceptor>, connector: Connector) -> Measured {
        let options = |name: &str, help: &str| Opts::new(name, help);
        let by_side = &["endpoint"];
        let ends = options(
            "engram_tls_certificate_expiry_timestamp_seconds",
            "When the certificate in use ends, seconds since 1970.",
        );
        let handshakes_failed = options(
            "engram_tls_handshakes_failed_total",
            "TLS handshakes that failed, by whose connections they were.",
        );
        let reloads_failed = options(
            "engram_tls_reloads_failed_total",
            "Times that changed TLS files could not be used; the last good ones stayed in use.",
        );
        let counter = |options| IntCounterVec::new(options, by_side).expect("a valid name");
        Measured {
            acceptors,
            connector,
            ends: IntGaugeVec::new(ends, by_side).expect("a valid name"),
            handshakes_failed: counter(handshakes_failed),
            reloads_failed: counter(reloads_failed),
        }
    }
}

/// Sets a counter to a value that was counted elsewhere.
fn raise(counter: &IntCounter, value: u64) {
    counter.inc_by(value.saturating_sub(counter.get()));
}

impl Collector for Measured {
    fn desc(&self) -> Vec<&Desc> {
        let counters = [&self.handshakes_failed, &self.reloads_failed];
        let counters = counters.into_iter().flat_map(Collector::desc);
        self.ends.desc().into_iter().chain(counters).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for acceptor in &self.acceptors {
            let side = &[acceptor.side().name()];
            let ends = self.ends.with_label_values(side);
            ends.set(acceptor.certificate_ends());
            for (counter, value) in [
                (&self.handshakes_failed, acceptor.handshakes_failed()),
                (&self.reloads_failed, acceptor.reloads_failed()),
            ] {
                raise(&counter.with_label_values(side), value);
            }
        }
        let outgoing = self.reloads_failed.with_label_values(&[OUTGOING]);
        raise(&outgoing, self.connector.reloads_failed());
        let mut families = self.ends.collect();
        families.extend(self.handshakes_failed.collect());
        families.extend(self.reloads_failed.collect());
        families
    }
}

/// How members are connected to: over TLS where their URL says so.
pub struct PeerDial(Connector);

impl PeerDial {
    /// For the questions of a member that has no data directory yet, and so no certificate of its
    /// own making.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn before_start(config: &Config) -> Result<Arc<dyn Dial>, TlsError> {
        let files = &config.peer_tls;
        let connector = match *files == TlsFiles::default() {
            true => connector(config)?,
            false => Connector::new(Side::Peer, files, &config.tls_policy)?,
        };
        Ok(Arc::new(PeerDial(connector)))
    }
}

impl Dial for PeerDial {
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        Box::pin(async move {
            let parsed = ListenUrl::parse(url);
            let invalid =
                |error| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {error}"));
            let stream = self.0.connect(&parsed.map_err(invalid)?).await?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }
}
