//! A lease that is renewed for as long as something is held, and signals that end the holding.

use std::time::Duration;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::lease_client::LeaseClient;
use engram_server::first;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::lease::keep_alive_once;
use crate::cli::Global;
use crate::connect::within;
use crate::failure::Failure;

/// Renewals in a time to live.
const RENEWALS: u32 = 3;

/// A session: a lease of its own.
pub struct Session {
    client: LeaseClient<Channel>,
    id: i64,
    ttl: Duration,
}

impl Session {
    /// Grants a lease of so many seconds.
    ///
    /// # Errors
    /// The cluster does not grant it.
    pub async fn begin(global: &Global, channel: Channel, ttl: i64) -> Result<Session, Failure> {
        let mut client = LeaseClient::new(channel);
        let request = pb::LeaseGrantRequest { ttl, id: 0 };
        let answer = within(global, client.lease_grant(request))
            .await?
            .into_inner();
        let ttl = Duration::from_secs(u64::try_from(answer.ttl).unwrap_or_default());
        let id = answer.id;
        Ok(Session { client, id, ttl })
    }

    /// The lease.
    pub fn lease(&self) -> i64 {
        self.id
    }

    /// Renews the lease until it is gone, or until nobody has renewed it for as long as it lives.
    pub async fn lost(&self, global: &Global) {
        let mut client = self.client.clone();
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(self.ttl / RENEWALS).await;
            match keep_alive_once(global, &mut client, self.id).await {
                Ok(answer) if answer.ttl <= 0 => return,
                Ok(_) => renewed = tokio::time::Instant::now(),
                Err(_) if renewed.elapsed() >= self.ttl => return,
                Err(_) => {}
            }
        }
    }
}

/// SIGINT and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they do not end the process.
    ///
    /// # Errors
    /// The system has no room for a handler.
    pub fn caught() -> Result<Signals, Failure> {
        let signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        first::heard();
        Ok(signals)
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
