//! One connection to a peer, made when it is needed and again when it broke.
//!
//! Dialling is a task of its own: a caller that gives up (a heartbeat waits less than a TLS
//! handshake may take) does not undo it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Uri;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::body::Body;

use super::activity::Activity;
use super::channel::Channel;
use super::dial::{BoxedIo, Dial};
use super::limits;
use super::{CallError, Directory};
use crate::types::MemberId;

/// What the links of a peer share.
pub(super) struct Route {
    pub(super) target: MemberId,
    pub(super) urls: Mutex<Urls>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) directory: Arc<dyn Directory>,
    /// Where connections live, whoever asks for them.
    pub(super) runtime: Handle,
    /// Whether the member is in touch.
    pub(super) activity: Activity,
}

/// Where a member is reached.
#[derive(Default)]
pub(super) struct Urls {
    /// As the caller of a call said.
    given: Vec<String>,
    /// As whoever looks after addresses said, which counts more.
    told: Option<Vec<String>>,
}

impl Urls {
    /// Takes over what a caller says. Whether that changes anything.
    pub(super) fn give(&mut self, urls: &[String]) -> bool {
        let differs = self.given != urls;
        if differs {
            self.given = urls.to_vec();
        }
        differs && self.told.is_none()
    }

    /// Takes over what counts from now on. Whether that changes anything.
    pub(super) fn tell(&mut self, urls: Vec<String>) -> bool {
        let differs = self.current() != urls;
        self.told = Some(urls);
        differs
    }

    fn current(&self) -> &[String] {
        self.told.as_deref().unwrap_or(&self.given)
    }
}

/// See the module.
pub(super) struct Link {
    route: Arc<Route>,
    /// What it is for, in log lines.
    purpose: &'static str,
    state: watch::Sender<State>,
}

#[derive(Clone)]
enum State {
    /// No connection. `failures` dials in a row have failed; no dial before `until`.
    Down {
        until: Instant,
        failures: u32,
        why: Arc<str>,
    },
    Dialling {
        failures: u32,
    },
    Up(Open),
}

#[derive(Clone)]
struct Open {
    sender: SendRequest<Body>,
    origin: Uri,
    /// Whether any call was answered: a connection that never was counts as a failed dial.
    answered: Arc<AtomicBool>,
    failures: u32,
}

impl State {
    fn idle() -> State {
        State::Down {
            until: Instant::now(),
            failures: 0,
            why: "not dialled yet".into(),
        }
    }

    fn failed(failures: u32, why: &str) -> State {
        let doubled = limits::BACKOFF_MIN.saturating_mul(1 << failures.min(16));
        State::Down {
            until: Instant::now() + doubled.min(limits::BACKOFF_MAX),
            failures: failures.saturating_add(1),
            why: why.into(),
        }
    }
}

impl Link {
    /// A link that is not connected yet.
    pub(super) fn new(route: Arc<Route>, purpose: &'static str) -> Arc<Link> {
        let (state, _) = watch::channel(State::idle());
        Arc::new(Link {
            route,
            purpose,
            state,
        })
    }

    /// A channel over the connection, made first where there is none.
    ///
    /// # Errors
    /// The dial failed, or the last one did a moment ago.
    pub(super) async fn channel(self: &Arc<Link>) -> Result<(Channel, Uri), CallError> {
        let mut states = self.state.subscribe();
        self.dial_if_due();
        let settled = states.wait_for(|state| !matches!(state, State::Dialling { .. }));
        let state = settled.await.map(|state| state.clone());
        match state {
            Ok(State::Up(open)) => {
                let channel = Channel {
                    sender: open.sender,
                    answered: open.answered,
                    route: self.route.clone(),
                };
                Ok((channel, open.origin))
            }
            Ok(State::Down { why, .. }) => Err(CallError::Unreachable(why.to_string())),
            Ok(State::Dialling { .. }) | Err(_) => {
                Err(CallError::Unreachable("the link was closed".into()))
            }
        }
    }

    /// Lets the connection go once its calls have ended.
    fn hang_up(&self) {
        self.leave(|_| State::idle());
    }

    /// Hangs up when what is returned is dropped.
    pub(super) fn for_a_while(self: &Arc<Link>) -> ForAWhile {
        ForAWhile(self.clone())
    }

    /// Whoever answers is not the member that is meant: an address changed hands. The next dial
    /// resolves names anew and begins with the next URL.
    pub(super) fn wrong_number(&self) {
        let why = "another member answers there";
        self.leave(|open| State::failed(open.failures, why));
        self.route.activity.lost(&why);
    }

    /// The member is reached elsewhere: a dial that would have waited is made at the next call. A
    /// connection that stands is kept, for as long as it does.
    pub(super) fn urls_changed(&self) {
        self.state.send_if_modified(|state| {
            let is_down = matches!(state, State::Down { .. });
            if is_down {
                *state = State::idle();
            }
            is_down
        });
    }

    fn leave(&self, next: impl FnOnce(&Open) -> State) {
        self.state.send_if_modified(|state| {
            let State::Up(open) = state else {
                return false;
            };
            *state = next(open);
            true
        });
    }

    fn dial_if_due(self: &Arc<Link>) {
        let begun = self.state.send_if_modified(|state| {
            self.notice_end(state);
            match state {
                State::Down {
                    until, failures, ..
                } if *until <= Instant::now() => {
                    *state = State::Dialling {
                        failures: *failures,
                    };
                    true
                }
                _ => false,
            }
        });
        if begun {
            let link = self.clone();
            self.route.runtime.spawn(async move { link.dial().await });
        }
    }

    /// A connection that has ended is none.
    fn notice_end(&self, state: &mut State) -> bool {
        let State::Up(open) = state else {
            return false;
        };
        let has_ended = open.sender.is_closed();
        if has_ended {
            *state = after(open);
            self.route.activity.lost(&"the connection ended");
        }
        has_ended
    }

    /// Tries the URLs in turn, after a failure beginning with another one.
    async fn dial(self: &Arc<Link>) {
        let failures = match &*self.state.borrow() {
            State::Dialling { failures } => *failures,
            State::Down { .. } | State::Up(_) => 0,
        };
        let mut urls = self.route.urls.lock().current().to_vec();
        let known = urls.clone();
        let first = usize::try_from(failures).unwrap_or(0) % urls.len().max(1);
        urls.rotate_left(first);
        let mut why = String::from("it has no peer URL");
        for url in &urls {
            match self.connect(url, failures).await {
                Ok(open) => {
                    crate::log!(debug, "connected to a peer", peer = %self.route.target,
                        url = url, purpose = self.purpose);
                    self.state.send_replace(State::Up(open));
                    return;
                }
                Err(error) => why = format!("{url}: {error}"),
            }
        }
        if failures == 0 {
            // As etcd says it, whose probers ask every few seconds.
            crate::log!(warn, "prober detected unhealthy status", "round-tripper-name" = self.purpose,
                "remote-peer-id" = %self.route.target, rtt = Duration::ZERO, error = why);
        }
        self.route.activity.lost(&why);
        // The addresses that were tried may not be the member's any more.
        let moved = self.route.urls.lock().current() != known;
        self.state.send_replace(match moved {
            true => State::idle(),
            false => State::failed(failures, &why),
        });
    }

    async fn connect(self: &Arc<Link>, url: &str, failures: u32) -> Result<Open, ConnectError> {
        let limit = limits::CONNECT_TIMEOUT;
        let dialled = tokio::time::timeout(limit, self.route.dial.dial(url)).await;
        let io: BoxedIo = dialled.map_err(|_| ConnectError::TimedOut(limit))??;
        let (sender, connection) = http2().handshake::<_, Body>(TokioIo::new(io)).await?;
        let (target, purpose) = (self.route.target, self.purpose);
        let link = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                crate::log!(debug, "a connection to a peer ended", peer = %target,
                    purpose = purpose, error = %error);
            }
            // It is said at once, whoever calls next.
            if let Some(link) = link.upgrade() {
                link.state.send_if_modified(|state| link.notice_end(state));
            }
        });
        Ok(Open {
            sender,
            origin: origin(url)?,
            answered: Arc::default(),
            failures,
        })
    }
}

/// See [`Link::for_a_while`].
pub(super) struct ForAWhile(Arc<Link>);

impl Drop for ForAWhile {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

/// A connection has ended: dial at once, unless it never was of any use.
fn after(open: &Open) -> State {
    if open.answered.load(Ordering::Relaxed) {
        return State::idle();
    }
    State::failed(open.failures, "the peer closed the connection")
}

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("not a URL: {0}")]
    Url(#[from] http::Error),
}

/// Scheme and authority of a URL: what the calls' URIs begin with.
fn origin(url: &str) -> Result<Uri, http::Error> {
    // The path of a socket is no authority.
    let url = match url.split_once("://") {
        Some(("unix", _)) => "http://localhost",
        Some(("unixs", _)) => "https://localhost",
        _ => url,
    };
    let parts = url.parse::<Uri>().map_err(http::Error::from)?.into_parts();
    let builder = Uri::builder().scheme(
        parts
            .scheme
            .map_or("http".into(), |s| s.to_string())
            .as_str(),
    );
    let authority = parts.authority.map_or(String::new(), |a| a.to_string());
    builder.authority(authority).path_and_query("/").build()
}

fn http2() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(crate::net::limits::STREAM_WINDOW)
        .initial_connection_window_size(crate::net::limits::CONNECTION_WINDOW)
        .max_frame_size(crate::net::limits::FRAME_MAX)
        .max_header_list_size(crate::net::limits::HEADER_LIST_MAX)
        .max_send_buf_size(crate::net::limits::SEND_BUFFER_MAX)
        .keep_alive_interval(limits::PING_INTERVAL)
        .keep_alive_timeout(limits::PING_TIMEOUT)
        .keep_alive_while_idle(true);
    builder
}
