//! The connections to all other members.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::activity::{Activity, Seen};
use super::client::Client;
use super::dial::Dial;
use super::link::Route;
use super::{Directory, Limits};
use crate::types::MemberId;

/// The connections to all peers. Clones share them.
#[derive(Clone)]
pub struct Clients(Arc<Shared>);

struct Shared {
    directory: Arc<dyn Directory>,
    dial: Arc<dyn Dial>,
    limits: Limits,
    runtime: Handle,
    peers: Mutex<HashMap<MemberId, Client>>,
}

impl Clients {
    /// No connections yet. Those to come live on the runtime that this is called on, whatever
    /// thread the calls are made from.
    pub fn new(directory: Arc<dyn Directory>, dial: Arc<dyn Dial>, limits: Limits) -> Clients {
        Clients(Arc::new(Shared {
            directory,
            dial,
            limits,
            runtime: Handle::current(),
            peers: Mutex::default(),
        }))
    }

    /// Tells where a member is reached from now on, whatever callers say: the likeliest URL first.
    /// Connections that stand are kept.
    pub fn tell_urls(&self, id: MemberId, urls: Vec<String>) {
        let mut peers = self.0.peers.lock();
        let client = peers.entry(id).or_insert_with(|| self.connect_to(id));
        client.tell_urls(urls);
    }

    /// The way to a member. Where nobody told its URLs ([`Clients::tell_urls`]), they are those given
    /// last; connections that stand are kept.
    pub fn member(&self, id: MemberId, urls: &[String]) -> Client {
        let mut peers = self.0.peers.lock();
        let client = peers.entry(id).or_insert_with(|| self.connect_to(id));
        client.set_urls(urls);
        client.clone()
    }

    /// The way to a member that was asked for before.
    pub fn known(&self, id: MemberId) -> Option<Client> {
        self.0.peers.lock().get(&id).cloned()
    }

    /// The way to whatever member answers at one of these URLs: to ask who the members are.
    pub fn anyone(&self, urls: &[String]) -> Client {
        let client = self.connect_to(MemberId(0));
        client.set_urls(urls);
        client
    }

    /// Since when a member is in touch without a break; none where it is not.
    pub fn active_since(&self, id: MemberId) -> Option<Instant> {
        let peers = self.0.peers.lock();
        peers.get(&id).and_then(Client::active_since)
    }

    /// Whether a member is in touch, and how often it was lost.
    pub fn activity(&self, id: MemberId) -> Seen {
        let peers = self.0.peers.lock();
        peers.get(&id).map(Client::activity).unwrap_or_default()
    }

    /// Lets the connections of all members go but for those that `stays` names.
    pub fn keep(&self, stays: impl Fn(MemberId) -> bool) {
        self.0.peers.lock().retain(|id, _| stays(*id));
    }

    fn connect_to(&self, target: MemberId) -> Client {
        let route = Arc::new(Route {
            target,
            urls: Mutex::default(),
            dial: self.0.dial.clone(),
            directory: self.0.directory.clone(),
            runtime: self.0.runtime.clone(),
            activity: Activity::of(target),
        });
        Client::new(route, self.0.limits)
    }
}
