//! Listeners and signals: the last to start, the first to stop.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use engram_spans::Spans;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, Access, Edge};
use crate::config::{self, Config, ListenUrl, MetricsDetail};
use crate::home::Inbox;
use crate::net::tls::{Acceptor, HandshakeError, Side};
use crate::net::{
    self, Address, BindOptions, Handler, Limits, Listener, Notice, Runtimes, STREAMS_DEFAULT,
    Security,
};
use crate::node::backend::Core;
use crate::node::boot::BootError;
use crate::node::memory;
use crate::node::signals::Quit;
use crate::node::tls::Tls;
use crate::peer::Refusal;

/// The connection threads, by default: the kernel and the other threads need cores too.
const IO_THREADS_DEFAULT_MAX: usize = 4;
/// How long clients may take to finish at a stop. etcd's tests allow 1.5 s for all of it.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);
/// "No ping" as a duration that is never reached.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many connection threads to run: what `--io-threads` says, else half of the cores.
pub fn thread_count(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config
        .limits
        .io_threads
        .unwrap_or_else(|| cores.div_ceil(2).min(IO_THREADS_DEFAULT_MAX))
        .max(1)
}

/// What serves.
pub struct Serving {
    runtimes: Runtimes,
}

impl Serving {
    /// Stops accepting, lets calls finish for a moment, ends the threads.
    pub fn stop(self) {
        self.runtimes.shutdown();
    }
}

/// Binds every listener and begins to serve.
///
/// # Errors
/// A socket is not to be had.
pub fn start(
    config: &Config,
    core: &Arc<Core>,
    inboxes: Vec<Inbox>,
    tls: &Tls,
    spans: Option<&Spans>,
) -> Result<Serving, BootError> {
    let system = |source| BootError::System {
        what: "the connection threads".into(),
        source,
    };
    let runtimes = Runtimes::start(inboxes, limits(config), log_notice).map_err(system)?;
    let options = BindOptions {
        reuse_port: config.listen.reuse_port,
    };
    let edge = Edge::new(core.clone(), edge_limits(config, spans));
    if config.http.profiles {
        crate::log!(info, "pprof is enabled", path = api::PROFILES);
    }
    let acceptor = tls.client.as_ref();
    // All are bound before the first is served: a member serves whole or not at all.
    let listen = &config.listen;
    let clients = bind_all(&runtimes, &listen.client, acceptor, options)?;
    let pages = bind_all(&runtimes, &listen.client_http, acceptor, options)?;
    let metrics = bind_all(&runtimes, &listen.metrics, acceptor, options)?;
    match pages.is_empty() {
        true => serve_all(&runtimes, clients, "grpc+http", &edge),
        false => serve_all(&runtimes, clients, "grpc", &edge.grpc_only()),
    }
    serve_all(&runtimes, pages, "http", &edge.http_only());
    for bound in metrics {
        runtimes.serve_secured(bound.listener, bound.security, edge.metrics_only());
        crate::log!(info, "serving metrics", address = %bound.url);
    }
    Ok(Serving { runtimes })
}

fn serve_all<H: Handler + Sync>(
    runtimes: &Runtimes,
    bound: Vec<Bound<'_>>,
    traffic: &'static str,
    handler: &H,
) {
    for bound in bound {
        let message = bound.message();
        runtimes.serve_secured(bound.listener, bound.security, handler.clone());
        crate::log!(info, message, traffic = traffic, address = %bound.url);
    }
}

/// A listener that is about to be served.
struct Bound<'a> {
    url: &'a ListenUrl,
    listener: Listener,
    security: Security,
}

impl Bound<'_> {
    /// What etcd logs when it serves it.
    fn message(&self) -> &'static str {
        match self.security {
            Security::Plain => "serving client traffic insecurely; this is strongly discouraged!",
            Security::Tls(_) => "serving client traffic securely",
            Security::Either(_) => "serving client traffic securely and insecurely",
        }
    }
}

/// One listener an address: `http` and `https` may share one, as in etcd.
fn bind_all<'a>(
    runtimes: &Runtimes,
    urls: impl IntoIterator<Item = &'a ListenUrl>,
    acceptor: Option<&Acceptor>,
    options: BindOptions,
) -> Result<Vec<Bound<'a>>, BootError> {
    let urls: Vec<&ListenUrl> = urls.into_iter().collect();
    let mut bound: Vec<Bound<'a>> = Vec::new();
    for url in &urls {
        if bound.iter().any(|other| other.url.address == url.address) {
            continue;
        }
        bound.push(Bound {
            url,
            listener: bind(runtimes, url, options)?,
            security: security(&urls, url, acceptor),
        });
    }
    Ok(bound)
}

/// What the URLs of one address ask for together.
fn security(urls: &[&ListenUrl], url: &ListenUrl, acceptor: Option<&Acceptor>) -> Security {
    let same = || urls.iter().filter(|other| other.address == url.address);
    if !same().any(|url| url.scheme.is_tls()) {
        return Security::Plain;
    }
    let acceptor = acceptor
        .expect("there is an acceptor where a URL has TLS")
        .clone();
    match same().all(|url| url.scheme.is_tls()) {
        true => Security::Tls(acceptor),
        false => Security::Either(acceptor),
    }
}

fn bind(runtimes: &Runtimes, url: &ListenUrl, options: BindOptions) -> Result<Listener, BootError> {
    let bound = address(url).and_then(|address| runtimes.bind(&address, options));
    bound.map_err(|source| not_bound(url, source))
}

fn not_bound(url: &ListenUrl, source: std::io::Error) -> BootError {
    BootError::System {
        what: format!("listening on {url}"),
        source,
    }
}

fn address(url: &ListenUrl) -> std::io::Result<Address> {
    Ok(match &url.address {
        config::Address::Socket(path) => Address::Unix(path.clone()),
        config::Address::Tcp { host, port } => Address::Tcp(resolve(host, *port)?),
    })
}

/// Flags name an address, nothing (all of them), or `localhost`.
fn resolve(host: &str, port: u16) -> std::io::Result<SocketAddr> {
    let host = match host {
        "" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        host => host,
    };
    let ip = host.parse().map_err(std::io::Error::other)?;
    Ok(SocketAddr::new(ip, port))
}

fn limits(config: &Config) -> Limits {
    let files = crate::fs::file_limit().unwrap_or(1024);
    Limits {
        // The other half is for the log, the store's files and peers.
        connections_max: usize::try_from(files / 2).unwrap_or(usize::MAX),
        streams_max: match config.limits.concurrent_streams_max {
            u32::MAX => STREAMS_DEFAULT,
            streams => streams,
        },
        keepalive_interval: config.keepalive.interval.unwrap_or(NEVER),
        keepalive_timeout: config.keepalive.timeout.unwrap_or(NEVER),
        ping_interval_min: config.keepalive.client_interval_min,
        shutdown_grace: SHUTDOWN_GRACE,
    }
}

fn edge_limits(config: &Config, spans: Option<&Spans>) -> api::Config {
    api::Config {
        max_request_bytes: usize::try_from(config.limits.request_bytes_max).unwrap_or(usize::MAX),
        max_txn_ops: usize::try_from(config.limits.txn_ops_max).unwrap_or(usize::MAX),
        warning_unary_request: config.warning_unary_request_duration,
        warning_apply: config.warning_apply_duration,
        extensive_metrics: config.http.metrics == MetricsDetail::Extensive,
        access: Access {
            origins: config.http.cors_origins.clone(),
            hosts: config.http.host_whitelist.clone(),
        },
        gateway: config.http.gateway,
        profiles: config.http.profiles,
        spans: spans.cloned(),
        request_budget_bytes: memory::request_budget_bytes(config),
        client_cert_auth: config.client_tls.client_cert_auth,
        calls_max: memory::calls_max(),
    }
}

fn log_notice(notice: Notice) {
    match notice {
        // Load balancers knock like this all day: etcd says it at debug level as well.
        Notice::HandshakeFailed {
            peer,
            error: error @ HandshakeError::Gone,
            ..
        } => crate::log!(debug, "rejected connection", "remote-addr" = %peer, error = %error),
        Notice::HandshakeFailed { peer, side, error } => {
            crate::log!(warn, rejected(side), "remote-addr" = %peer, error = %error);
        }
        notice => crate::log!(debug, "connection", notice = ?notice),
    }
}

/// etcd's words.
fn rejected(side: Side) -> &'static str {
    match side {
        Side::Client => "rejected connection on client endpoint",
        Side::Peer => "rejected connection on peer endpoint",
    }
}

/// Where peers connect, bound and not served yet.
pub struct PeerListener {
    /// What it is for.
    pub url: ListenUrl,
    /// The socket.
    pub socket: net::Bound,
    /// What is spoken on it.
    pub security: Security,
}

/// Binds the listeners for peers. They are served once consensus runs.
///
/// # Errors
/// A socket is not to be had.
pub fn bind_peers(config: &Config, tls: &Tls) -> Result<Vec<PeerListener>, BootError> {
    let options = BindOptions {
        reuse_port: config.listen.reuse_port,
    };
    let urls: Vec<&ListenUrl> = config.listen.peer.iter().collect();
    let mut bound: Vec<&config::Address> = Vec::new();
    let mut listeners = Vec::new();
    for url in &urls {
        if bound.contains(&&url.address) {
            continue;
        }
        bound.push(&url.address);
        listeners.push(PeerListener {
            url: (*url).clone(),
            socket: bind_peer(url, options)?,
            security: security(&urls, url, tls.peer.as_ref()),
        });
    }
    Ok(listeners)
}

fn bind_peer(url: &ListenUrl, options: BindOptions) -> Result<net::Bound, BootError> {
    let bound = address(url).and_then(|address| net::Bound::bind(&address, options));
    let bound = bound.map_err(|source| not_bound(url, source))?;
    crate::log!(info, "listening to peers", address = %url);
    Ok(bound)
}

/// Why a member stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was told to, by this signal.
    Signal(i32),
    /// It was told to end at once (SIGQUIT).
    Quit,
    /// It is no member (any more).
    Expelled(Refusal),
}

/// Hears what tells the process to stop.
pub struct Signals<'a> {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    quit: Pin<Box<dyn Future<Output = ()> + 'a>>,
    quits: &'a Quit,
}

impl<'a> Signals<'a> {
    /// From here on they are heard; before, they end the process as the system does by itself.
    ///
    /// # Errors
    /// The system refuses to tell of signals.
    pub fn hear(quits: &'a Quit) -> Result<Signals<'a>, BootError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(of_signals)?;
        let within = runtime.enter();
        let terminate = signal(SignalKind::terminate()).map_err(of_signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(of_signals)?;
        let quit = Box::pin(quits.wait().map_err(of_signals)?);
        drop(within);
        crate::first::heard();
        Ok(Signals {
            runtime,
            terminate,
            interrupt,
            quit,
            quits,
        })
    }

    /// Blocks until the process is told to stop, or `expelled` says that it is no member.
    pub fn wait(mut self, mut expelled: watch::Receiver<Option<Refusal>>) -> Stop {
        let stop = self.runtime.block_on(async {
            let refused = async {
                match expelled.wait_for(Option::is_some).await {
                    Ok(refusal) => refusal.expect("waited for"),
                    // The directory lives as long as the member.
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => Stop::Signal(SignalKind::terminate().as_raw_value()),
                _ = self.interrupt.recv() => Stop::Signal(SignalKind::interrupt().as_raw_value()),
                () = &mut self.quit => Stop::Quit,
                refusal = refused => Stop::Expelled(refusal),
            }
        });
        self.quits.unheard();
        stop
    }
}

/// The system refuses to tell of signals.
pub fn of_signals(source: std::io::Error) -> BootError {
    BootError::System {
        what: "waiting for signals".into(),
        source,
    }
}
