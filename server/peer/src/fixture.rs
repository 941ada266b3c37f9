//! A directory in memory and a listener, for the tests of this floor and of those above.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::types::{ClusterId, MemberId};
use crate::{Directory, Local, Refusal, Standing};

/// A directory in memory.
pub struct Book {
    /// Who this member is.
    pub local: Mutex<Local>,
    /// What is known of others.
    pub members: Mutex<HashMap<MemberId, Standing>>,
    /// Whether strangers are let in.
    pub admits: AtomicBool,
    /// Who refused this member, and why.
    pub refusals: Mutex<Vec<(MemberId, Refusal)>>,
    /// Who does not hold what it had acknowledged.
    pub forgetful: Mutex<HashSet<MemberId>>,
    /// Where this member says that it listens.
    pub listens: Mutex<String>,
    /// Where others said that they listen.
    pub heard: Mutex<Vec<(MemberId, String)>>,
}

impl Book {
    /// The directory of `member` of a cluster that knows nobody yet. Incarnations are ids times ten.
    pub fn of(member: MemberId) -> Arc<Book> {
        let local = Local {
            cluster: ClusterId(0xc),
            member,
            incarnation: member.0 * 10,
        };
        Arc::new(Book {
            local: Mutex::new(local),
            members: Mutex::default(),
            admits: AtomicBool::new(false),
            refusals: Mutex::default(),
            forgetful: Mutex::default(),
            listens: Mutex::default(),
            heard: Mutex::default(),
        })
    }

    /// Notes what the table says of a member.
    pub fn record(&self, member: MemberId, standing: Standing) {
        self.members.lock().insert(member, standing);
    }
}

impl Directory for Book {
    fn local(&self) -> Local {
        *self.local.lock()
    }

    fn standing(&self, member: MemberId) -> Standing {
        let members = self.members.lock();
        members.get(&member).copied().unwrap_or(Standing::Unknown)
    }

    fn admit(&self, _: MemberId) -> bool {
        self.admits.load(Ordering::Relaxed)
    }

    fn listens(&self) -> Arc<str> {
        self.listens.lock().as_str().into()
    }

    fn heard(&self, sender: MemberId, listens: &str) {
        self.heard.lock().push((sender, listens.to_owned()));
    }

    fn forgot(&self, member: MemberId) {
        self.forgetful.lock().insert(member);
    }

    fn has_forgotten(&self, member: MemberId) -> bool {
        self.forgetful.lock().contains(&member)
    }

    fn refused(&self, by: MemberId, refusal: Refusal) {
        self.refusals.lock().push((by, refusal));
    }
}

/// A listener on a port of its own, and the peer URL for it.
pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, url)
}
