//! `/metrics`, `/healthz` and `/readyz`.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::pulse::Pulse;
use crate::telemetry::Metrics;

/// Connections at once: scrapers and probes, nobody else.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take over its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// Every address; of IPv4 alone where the node has no other.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let any = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match TcpListener::bind(address).await {
        Err(_) if any => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await,
        listener => listener,
    }
}

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, metrics: Metrics, pulse: Pulse) -> std::io::Result<()> {
    let listener = listen(address).await?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return Ok(());
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: the next one may do.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let known = (metrics.clone(), pulse.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(known.clone(), request));
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_LIMIT);
            // A client that goes away is no concern of ours.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
            drop(place);
        });
    }
}

async fn answer(
    (metrics, pulse): (Metrics, Pulse),
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match request.uri().path() {
        "/metrics" => (StatusCode::OK, metrics.text()),
        "/healthz" | "/livez" if !pulse.beats(Instant::now()) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no pass comes to an end\n".to_owned(),
        ),
        // A replica that waits for its turn is well, and ready to take it.
        "/healthz" | "/livez" | "/readyz" => (StatusCode::OK, "ok\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}
