//! The connection threads, and the accept loops that hand connections round.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::connection::{self, ConnectionError};
use super::home::Inbox;
use super::limits::{BLOCKING_THREADS_MAX, Limits};
use super::listener::{Accepted, Address, BindOptions, Listener};
use super::round::Round;
use super::security::{Security, open_stream};
use super::tls::{HandshakeError, Side};
use super::{Handler, PeerAddress};
use crate::threads::{self, ForCaller};

/// How long an accept loop rests after the system refused it (no file descriptor left, …).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Something an operator may want to read. Calls are on connection threads: do not block.
#[derive(Debug)]
pub enum Notice {
    /// A connection was closed unread: as many as allowed are open.
    Refused {
        /// Where it came from.
        peer: PeerAddress,
        /// How many are open.
        open: usize,
    },
    /// The system refused to hand out a connection.
    AcceptFailed(io::Error),
    /// A connection was refused in its TLS handshake.
    HandshakeFailed {
        /// Where it came from.
        peer: PeerAddress,
        /// Whose connections the listener takes.
        side: Side,
        /// Why, in Go's words where it has some.
        error: HandshakeError,
    },
    /// A connection ended in an error (the client's, mostly).
    Ended {
        /// Where it came from.
        peer: PeerAddress,
        /// What happened.
        error: String,
    },
}

/// What the connections amount to.
#[derive(Debug, Default)]
pub struct Traffic {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Traffic {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The connection threads. Dropping them without [`Runtimes::shutdown`] leaves them running.
pub struct Runtimes {
    threads: Vec<Thread>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Ends when the last connection and accept loop has dropped its sender.
    ended: mpsc::Receiver<()>,
    alive: mpsc::Sender<()>,
}

struct Thread {
    join: JoinHandle<()>,
    quit: oneshot::Sender<()>,
}

/// One runtime, as the accept loops see it.
struct Runtime {
    handle: Handle,
    open: AtomicUsize,
    round: Round,
}

struct Shared {
    runtimes: Vec<Arc<Runtime>>,
    limits: Limits,
    traffic: Traffic,
    notify: Box<dyn Fn(Notice) + Send + Sync>,
}

impl Runtimes {
    /// Starts a thread for every inbox. `notify` gets what happens to connections.
    ///
    /// # Errors
    /// The system refuses a thread or what a runtime needs.
    pub fn start(
        inboxes: Vec<Inbox>,
        limits: Limits,
        notify: impl Fn(Notice) + Send + Sync + 'static,
    ) -> io::Result<Runtimes> {
        assert!(!inboxes.is_empty(), "connections need a thread");
        let mut threads = Vec::new();
        let mut runtimes = Vec::new();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING_THREADS_MAX)
                .build()?;
            let handle = runtime.handle().clone();
            runtimes.push(Arc::new(Runtime {
                handle,
                open: AtomicUsize::new(0),
                round: Round::default(),
            }));
            let (quit, quitting) = oneshot::channel();
            let name = format!("engram-io-{index}");
            let join = threads::spawn(&name, move || run(&runtime, inbox, quitting))?;
            threads.push(Thread { join, quit });
        }
        let shared = Shared {
            runtimes,
            limits,
            traffic: Traffic::default(),
            notify: Box::new(notify),
        };
        let (stop, _) = watch::channel(false);
        let (alive, ended) = mpsc::channel();
        Ok(Runtimes {
            threads,
            shared: Arc::new(shared),
            stop,
            ended,
            alive,
        })
    }

    /// Binds a listener. The system queues connections from here on.
    ///
    /// # Errors
    /// See [`Listener`].
    pub fn bind(&self, address: &Address, options: BindOptions) -> io::Result<Listener> {
        let _within = self.shared.runtimes[0].handle.enter();
        Listener::bind(address, options)
    }

    /// Serves a listener without TLS until shutdown.
    pub fn serve<H: Handler + Sync>(&self, listener: Listener, handler: H) {
        self.serve_secured(listener, Security::Plain, handler);
    }

    /// Serves a listener until shutdown.
    pub fn serve_secured<H: Handler + Sync>(
        &self,
        listener: Listener,
        security: Security,
        handler: H,
    ) {
        let accepting = Accepting {
            listener,
            security: security.for_listener(),
            handler,
            shared: Arc::clone(&self.shared),
            stop: self.stop.subscribe(),
            alive: self.alive.clone(),
        };
        self.shared.runtimes[0].handle.spawn(accepting.run());
    }

    /// What the connections amount to.
    pub fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }

    /// Stops accepting, says goodbye to clients, waits for their calls within the limit's grace,
    /// and ends the threads. Blocks; call it from a thread of no runtime.
    pub fn shutdown(self) {
        let Runtimes {
            threads,
            shared,
            stop,
            ended,
            alive,
        } = self;
        drop(alive);
        stop.send_replace(true);
        // Connections bound their own end by the grace; the margin is for a busy machine.
        let _ = ended.recv_timeout(shared.limits.shutdown_grace + Duration::from_millis(200));
        for thread in threads {
            // The thread is gone already only if it panicked, which join tells.
            let _ = thread.quit.send(());
            thread
                .join
                .join()
                .expect("a connection thread does not panic");
        }
    }
}

fn run(runtime: &tokio::runtime::Runtime, inbox: Inbox, quitting: oneshot::Receiver<()>) {
    inbox.move_in();
    runtime.spawn(inbox.run());
    runtime.spawn(threads::beat());
    // Either the word to quit or, without it, the sender's end: it lives as long as `Runtimes`.
    let _ = runtime.block_on(quitting);
}

struct Accepting<H> {
    listener: Listener,
    security: Security,
    handler: H,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

impl<H: Handler + Sync> Accepting<H> {
    async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            // An error means that the sender is gone, which is the end as well.
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.accept_all() => {}
        }
    }

    async fn accept_all(&mut self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => self.hand_over(stream, peer),
                Err(error) => {
                    (self.shared.notify)(Notice::AcceptFailed(error));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn hand_over(&self, stream: Accepted, peer: PeerAddress) {
        let traffic = &self.shared.traffic;
        let open = traffic.open();
        if open >= self.shared.limits.connections_max {
            traffic.refused.fetch_add(1, Ordering::Relaxed);
            (self.shared.notify)(Notice::Refused { peer, open });
            return;
        }
        traffic.accepted.fetch_add(1, Ordering::Relaxed);
        let guard = Open::new(&self.shared, self.alive.clone());
        let handle = guard.runtime.handle.clone();
        let connection = Connection {
            accepted: stream,
            peer,
            security: self.security.clone(),
            open: guard,
            stop: self.stop.clone(),
        };
        handle.spawn(connection.task(self.handler.clone()));
    }
}

/// Counts a connection while it lives.
struct Open {
    shared: Arc<Shared>,
    runtime: Arc<Runtime>,
    _alive: mpsc::Sender<()>,
}

impl Open {
    /// Chooses the thread with the fewest connections.
    fn new(shared: &Arc<Shared>, alive: mpsc::Sender<()>) -> Open {
        let least = shared
            .runtimes
            .iter()
            .min_by_key(|r| r.open.load(Ordering::Relaxed));
        let runtime = Arc::clone(least.expect("there is a connection thread"));
        runtime.open.fetch_add(1, Ordering::Relaxed);
        shared.traffic.open.fetch_add(1, Ordering::Relaxed);
        Open {
            shared: Arc::clone(shared),
            runtime,
            _alive: alive,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.runtime.open.fetch_sub(1, Ordering::Relaxed);
        self.shared.traffic.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its thread.
struct Connection {
    accepted: Accepted,
    peer: PeerAddress,
    security: Security,
    open: Open,
    stop: watch::Receiver<bool>,
}

impl Connection {
    /// What is kept as long as the connection lives. (Not an async block, which would have room for all of it
    /// twice.) What panicked is in the log; the connection is closed by it.
    fn task<H: Handler + Sync>(self, handler: H) -> impl Future<Output = ()> + Send + 'static {
        ForCaller::new(self.serve(handler)).map(Result::unwrap_or_default)
    }

    async fn serve<H: Handler>(self, handler: H) {
        let Connection {
            accepted,
            peer,
            security,
            open,
            mut stop,
        } = self;
        let opened = tokio::select! {
            opened = open_stream(accepted, peer, &security) => opened,
            // No call is under way before the handshake is done.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let ended = match opened {
            Ok((stream, info)) => {
                let round = open.runtime.round.clone();
                connection::serve(stream, handler, info, round, &open.shared.limits, stop).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            (open.shared.notify)(notice(peer, &security, error));
        }
    }
}

fn notice(peer: PeerAddress, security: &Security, error: ConnectionError) -> Notice {
    match (error, security) {
        (
            ConnectionError::Handshake(error),
            Security::Tls(acceptor) | Security::Either(acceptor),
        ) => Notice::HandshakeFailed {
            peer,
            side: acceptor.side(),
            error,
        },
        (error, _) => Notice::Ended {
            peer,
            error: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Homes;

    #[derive(Clone)]
    struct Silent;

    impl Handler for Silent {
        fn call(
            &self,
            _: http::Request<hyper::body::Incoming>,
            _: &crate::PeerInfo,
        ) -> impl Future<Output = http::Response<tonic::body::Body>> + Send + 'static + use<>
        {
            std::future::ready(http::Response::default())
        }
    }

    /// Every idle connection costs that, beside what hyper and h2 keep of it.
    #[test]
    fn a_connections_task_is_small() {
        let (_, inboxes) = Homes::new(1);
        let runtimes = Runtimes::start(inboxes, Limits::default(), |_| {}).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connection = Connection {
            accepted: Accepted::Tcp(std::net::TcpStream::connect(address).unwrap()),
            peer: PeerAddress::Tcp(address),
            security: Security::Plain,
            open: Open::new(&runtimes.shared, runtimes.alive.clone()),
            stop: runtimes.stop.subscribe(),
        };
        let task = connection.task(Silent);
        let bytes = size_of_val(&task);
        drop(task);
        runtimes.shutdown();
        assert!(bytes <= 2_048, "{bytes}");
    }
}
