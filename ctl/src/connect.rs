//! Connections to members: endpoints as etcdctl takes them, TLS as its flags ask for it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use engram_server::config::{ListenUrl, TlsFiles, TlsPolicy, TlsVersion};
use engram_server::net::Stream;
use engram_server::net::tls::{Connector, Side};
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::cli::Global;
use crate::failure::Failure;

/// How often an idle connection is asked whether it still is one, and how long it may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

/// A member that answered the connection.
#[derive(Clone, Debug)]
pub struct Member {
    /// The connection.
    pub channel: Channel,
}

/// Opens connections for tonic.
#[derive(Clone)]
struct Dial {
    connector: Connector,
    url: ListenUrl,
}

impl Service<http::Uri> for Dial {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.connector.connect(&dial.url).await.map(TokioIo::new) })
    }
}

/// Connects to the first endpoint that answers.
pub async fn any(global: &Global) -> Result<Member, Failure> {
    let mut failures = Vec::new();
    for endpoint in &global.endpoints {
        match one(global, endpoint).await {
            Ok(member) => return Ok(member),
            Err(failure) => failures.push(format!("{endpoint}: {failure}")),
        }
    }
    Err(Failure::new(format!(
        "no endpoint answers: {}",
        failures.join("; ")
    )))
}

/// Connects to an endpoint: `host:port` or a URL.
pub async fn one(global: &Global, endpoint: &str) -> Result<Member, Failure> {
    let url = parse(global, endpoint)?;
    let connector = connector(global, &url)?;
    // What is dialled is the URL; this one only becomes the requests' authority.
    let authority = url.host().unwrap_or("localhost").to_owned();
    let target = match authority.contains(':') {
        true => format!("http://[{authority}]"),
        false => format!("http://{authority}"),
    };
    let target = Endpoint::from_shared(target).map_err(Failure::arguments)?;
    let target = target
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT);
    let connecting = target.connect_with_connector(Dial { connector, url });
    let connected = tokio::time::timeout(global.dial_timeout, connecting).await;
    let late = |_| Failure::new("context deadline exceeded");
    let channel = connected
        .map_err(late)?
        .map_err(|error| Failure::new(root(&error)))?;
    Ok(Member { channel })
}

/// Bounds a command by `--command-timeout`.
pub async fn within<T, E: Into<Failure>>(
    global: &Global,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(global.command_timeout, doing).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Failure::new("context deadline exceeded")),
    }
}

/// etcdctl takes an endpoint without a scheme for TLS where a certificate or CA is given.
fn parse(global: &Global, endpoint: &str) -> Result<ListenUrl, Failure> {
    let has_tls = global.cacert.is_some() || global.cert.is_some();
    let text = match (endpoint.contains("://"), has_tls) {
        (true, _) => endpoint.to_owned(),
        (false, true) => format!("https://{endpoint}"),
        (false, false) => format!("http://{endpoint}"),
    };
    ListenUrl::parse(&text).map_err(|error| Failure::arguments(format!("{endpoint}: {error}")))
}

fn connector(global: &Global, url: &ListenUrl) -> Result<Connector, Failure> {
    if !url.scheme.is_tls() {
        return Ok(Connector::plain());
    }
    let is_unverified = global.insecure_skip_tls_verify;
    let files = TlsFiles {
        cert: global.cert.clone(),
        key: global.key.clone(),
        trusted_ca: global.cacert.clone().filter(|_| !is_unverified),
        self_signed: is_unverified,
        ..TlsFiles::default()
    };
    let policy = TlsPolicy {
        version_min: TlsVersion::V1_2,
        version_max: None,
        cipher_suites: Vec::new(),
        self_signed_cert_validity_years: 1,
    };
    Connector::new(Side::Client, &files, &policy).map_err(Failure::new)
}

/// What lies at the bottom of an error of tonic's.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
