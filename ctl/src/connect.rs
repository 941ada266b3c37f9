//! Connections to members: endpoints as etcdctl takes them, TLS as its flags ask for it.

use std::future::Future;
use std::time::{Duration, Instant};

use engram_backup::channel::{Channel, Token};
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::auth_client::AuthClient;
use engram_server::config::{ListenUrl, TlsFiles, TlsPolicy, TlsVersion};
use engram_server::net::tls::{Connector, Dial, KEEPALIVE_INTERVAL_MIN, Side};
use engram_server::node::discovery::dns;
use hyper_util::rt::TokioIo;
use tonic::transport::{self, Endpoint};

use crate::cli::Global;
use crate::failure::Failure;
use crate::verbs::auth::ask;

/// What a cluster says of a password where authentication is off.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
/// How long after nobody answered they are dialled again.
const DIAL_AGAIN: Duration = Duration::from_millis(100);

/// A member that answered the connection.
#[derive(Clone, Debug)]
pub struct Member {
    /// The connection.
    pub channel: Channel,
}

/// Connects to the first endpoint that answers. Where none does, all are dialled again for as long as a command may
/// take, as etcdctl does: a script that starts a member asks it in the next line.
pub async fn any(global: &Global) -> Result<Member, Failure> {
    let channel = patiently(global.command_timeout, || dial_any(global)).await?;
    introduced(global, channel).await
}

/// [`any`] that fails at once where nobody answers, for whoever asks again by himself.
pub async fn any_now(global: &Global) -> Result<Member, Failure> {
    let channel = dial_any(global).await?;
    introduced(global, channel).await
}

/// Dials until somebody is there, for as long as `limit`.
async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
    limit: Duration,
    dial: impl Fn() -> F,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        match dial().await {
            Err(failure) if failure.is_unreached() && began.elapsed() + DIAL_AGAIN < limit => {
                tokio::time::sleep(DIAL_AGAIN).await;
            }
            dialled => return dialled,
        }
    }
}

async fn dial_any(global: &Global) -> Result<transport::Channel, Failure> {
    if names_files(global) {
        secured(global)?;
    }
    let mut failures = Vec::new();
    let mut is_unreached = true;
    for endpoint in &endpoints(global).await? {
        match dial(global, endpoint).await {
            Ok(channel) => return Ok(channel),
            Err(failure) => {
                is_unreached &= failure.is_unreached();
                failures.push(format!("{endpoint}: {failure}"));
            }
        }
    }
    let said = format!("no endpoint answers: {}", failures.join("; "));
    // A certificate that is not believed, or a file that is not there, is no better a second later.
    Err(match is_unreached {
        true => Failure::unreached(said),
        false => Failure::new(said),
    })
}

/// The endpoints that the flags name: those found by DNS, where there are any.
pub async fn endpoints(global: &Global) -> Result<Vec<String>, Failure> {
    let given = global.endpoints.iter().map(|it| it.trim().to_owned());
    let Some(domain) = global.discovery_srv.as_deref().filter(|it| !it.is_empty()) else {
        return Ok(given.collect());
    };
    let suffix = global.discovery_srv_name.as_deref().unwrap_or_default();
    let resolver = dns::resolver().map_err(Failure::new)?;
    let found = dns::clients(&resolver, domain, suffix).await;
    let mut found = found.map_err(Failure::new)?;
    if !global.insecure_discovery {
        found.retain(|url| {
            let is_secure = !url.starts_with("http://");
            if !is_secure {
                eprintln!("ignoring discovered insecure endpoint {url:?}");
            }
            is_secure
        });
    }
    match found.is_empty() {
        true => Ok(given.collect()),
        false => Ok(found),
    }
}

/// Connects to an endpoint, `host:port` or a URL, as patiently as [`any`].
pub async fn one(global: &Global, endpoint: &str) -> Result<Member, Failure> {
    let channel = patiently(global.command_timeout, || dial(global, endpoint)).await?;
    introduced(global, channel).await
}

/// [`one`] that fails at once where nobody answers, for whoever has others to ask.
pub async fn one_now(global: &Global, endpoint: &str) -> Result<Member, Failure> {
    let channel = dial(global, endpoint).await?;
    introduced(global, channel).await
}

/// Says who calls, as the flags do.
async fn introduced(global: &Global, channel: transport::Channel) -> Result<Member, Failure> {
    // As in etcdctl, a token is enough: a user that a variable names beside it is not asked for a password.
    let token = match &global.auth_jwt_token {
        Some(token) => Some(token.0.clone()),
        None => match credentials(global)? {
            Some(request) => authenticate(global, channel.clone(), request).await?,
            None => None,
        },
    };
    let token = match token.as_deref().map(Token::new) {
        Some(None) => return Err(Failure::new("the token is no header's value")),
        Some(Some(token)) => token,
        None => Token::default(),
    };
    let channel = token.over(channel);
    Ok(Member { channel })
}

/// `--user` and `--password`; asked for where there is a name alone.
fn credentials(global: &Global) -> Result<Option<pb::AuthenticateRequest>, Failure> {
    let Some(user) = &global.user else {
        return Ok(None);
    };
    let (name, password) = match (&global.password, user.0.split_once(':')) {
        (Some(password), _) => (user.0.as_str(), password.0.clone()),
        (None, Some((name, password))) => (name, password.to_owned()),
        (None, None) => (user.0.as_str(), ask("Password: ")?),
    };
    if name.is_empty() {
        return Err(Failure::arguments("user name is empty"));
    }
    let name = name.to_owned();
    Ok(Some(pb::AuthenticateRequest { name, password }))
}

/// A token; none where the cluster asks nobody who they are.
async fn authenticate(
    global: &Global,
    channel: transport::Channel,
    request: pb::AuthenticateRequest,
) -> Result<Option<String>, Failure> {
    let mut client = AuthClient::new(channel);
    let asked = tokio::time::timeout(global.command_timeout, client.authenticate(request)).await;
    match asked {
        Ok(Ok(answer)) => Ok(Some(answer.into_inner().token)),
        Ok(Err(refused)) if refused.message() == NOT_ENABLED => Ok(None),
        Ok(Err(refused)) => Err(refused.into()),
        Err(_) => Err(Failure::new("context deadline exceeded")),
    }
}

async fn dial(global: &Global, endpoint: &str) -> Result<transport::Channel, Failure> {
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
        .http2_keep_alive_interval(global.keepalive_time.max(KEEPALIVE_INTERVAL_MIN))
        .keep_alive_timeout(global.keepalive_timeout);
    let connecting = target.connect_with_connector(Dial::new(connector, url));
    let connected = tokio::time::timeout(global.dial_timeout, connecting).await;
    let late = |_| Failure::unreached("context deadline exceeded");
    connected
        .map_err(late)?
        .map_err(|error| match is_refusal(&error) {
            true => Failure::new(root(&error)),
            false => Failure::unreached(root(&error)),
        })
}

/// A page of an endpoint's, as text.
pub async fn page(global: &Global, endpoint: &str, path: &str) -> Result<String, Failure> {
    let url = parse(global, endpoint)?;
    let connector = connector(global, &url)?;
    let authority = url.host().unwrap_or("localhost").to_owned();
    within(global, async {
        let stream = TokioIo::new(connector.connect(&url).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(Failure::new)?;
        tokio::spawn(connection);
        let request = http::Request::get(path)
            .header(http::header::HOST, authority)
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .map_err(Failure::new)?;
        let answer = sender.send_request(request).await.map_err(Failure::new)?;
        let body = http_body_util::BodyExt::collect(answer.into_body());
        let bytes = body.await.map_err(Failure::new)?.to_bytes();
        Ok::<_, Failure>(String::from_utf8_lossy(&bytes).into_owned())
    })
    .await
}

/// Bounds a command by `--command-timeout`.
pub fn within<T, E: Into<Failure>, F: Future<Output = Result<T, E>>>(
    global: &Global,
    doing: F,
) -> impl Future<Output = Result<T, Failure>> + use<T, E, F> {
    bounded(global.command_timeout, doing)
}

/// Bounds what is done in time.
pub async fn bounded<T, E: Into<Failure>>(
    limit: Duration,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, doing).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Failure::unreached("context deadline exceeded")),
    }
}

/// etcdctl takes an endpoint without a scheme for TLS where a certificate or CA is given.
fn parse(global: &Global, endpoint: &str) -> Result<ListenUrl, Failure> {
    let has_tls = global.cacert.is_some()
        || global.cert.is_some()
        || global.insecure_skip_tls_verify
        || !global.insecure_transport;
    let text = match (endpoint.contains("://"), has_tls) {
        (true, _) => endpoint.to_owned(),
        (false, true) => format!("https://{endpoint}"),
        (false, false) => format!("http://{endpoint}"),
    };
    ListenUrl::parse(&text).map_err(|error| Failure::arguments(format!("{endpoint}: {error}")))
}

/// What dials an endpoint. The files that the flags name are read for a plain one too, as etcdctl does: a script
/// that names one that is not there is wrong.
fn connector(global: &Global, url: &ListenUrl) -> Result<Connector, Failure> {
    let is_tls = url.scheme.is_tls();
    if is_tls || names_files(global) {
        let secured = secured(global)?;
        if is_tls {
            return Ok(secured.within(global.dial_timeout));
        }
    }
    Ok(Connector::plain().within(global.dial_timeout))
}

fn names_files(global: &Global) -> bool {
    global.cacert.is_some() || global.cert.is_some() || global.key.is_some()
}

fn secured(global: &Global) -> Result<Connector, Failure> {
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
    Connector::new(Side::Client, &files, &policy).map_err(Failure::arguments)
}

/// Whether somebody was there, and what came of TLS is no connection: bytes that make no sense to it, certificates
/// that are not believed.
pub fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind;
    let mut next = Some(error);
    while let Some(cause) = next {
        let kind = cause
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        if matches!(kind, Some(ErrorKind::InvalidData | ErrorKind::InvalidInput)) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// What lies at the bottom of an error of tonic's.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[tokio::test]
    async fn who_is_not_there_yet_is_dialled_again_and_who_refuses_is_not() {
        let limit = Duration::from_secs(5);
        let tries = std::cell::Cell::new(0);
        let dial = |come_at: u32, failure: fn() -> Failure| {
            tries.set(0);
            let tries = &tries;
            move || {
                tries.set(tries.get() + 1);
                let tried = tries.get();
                async move {
                    if tried == come_at {
                        Ok(tried)
                    } else {
                        Err(failure())
                    }
                }
            }
        };
        let unreached = || Failure::unreached("connection refused");
        assert_eq!(patiently(limit, dial(3, unreached)).await, Ok(3));
        let refused = patiently(limit, dial(2, || Failure::new("not believed"))).await;
        assert_eq!(refused, Err(Failure::new("not believed")));
        assert_eq!(tries.get(), 1);
        let none = patiently(Duration::ZERO, dial(2, unreached)).await;
        assert_eq!(none, Err(unreached()), "a limit of nothing is one try");
    }

    #[test]
    fn who_answers_and_refuses_is_not_waited_for() {
        for (kind, wanted) in [
            (ErrorKind::InvalidData, true),
            (ErrorKind::InvalidInput, true),
            (ErrorKind::ConnectionRefused, false),
            (ErrorKind::TimedOut, false),
            (ErrorKind::HostUnreachable, false),
        ] {
            let error = || Error::new(kind, "said");
            assert_eq!(is_refusal(&error()), wanted, "{kind:?}");
            // As it comes with a call.
            let mut status = tonic::Status::unavailable("said");
            status.set_source(std::sync::Arc::new(error()));
            assert_eq!(Failure::from(status).is_unreached(), !wanted, "{kind:?}");
        }
    }
}
