//! A whole member on a simulator's stage: what [`crate::node::run`] joins, without listeners, signals and
//! threads. It is polled on whatever runtime it is started on, and its work is stepped by the stage.

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinHandle;

pub use crate::node::parts::Arrivals;

use crate::config::Config;
use crate::home::Homes;
use crate::node::backend::Core;
use crate::node::boot::{self, BootError, Locks};
use crate::node::joined::{Outside, Ready};
use crate::node::offline::{FlagError, MemberFlags, new_member};
use crate::peer::Dial;
use crate::raft::{ApplyThread, LogStore};
use crate::storage::Identity;
use crate::wal;

/// What a simulated disk is smaller in.
pub struct Tuned {
    /// The log's options.
    pub log: Box<dyn FnOnce(wal::Options) -> wal::Options>,
    /// Bytes of the filesystem that the log lies on.
    pub log_disk_bytes: u64,
}

/// A running member.
pub struct Staged {
    /// What its clients reach.
    pub core: Arc<Core>,
    /// Its log.
    pub log: LogStore,
    _duties: JoinHandle<()>,
    _apply: ApplyThread,
    _locks: Locks,
}

/// Gives an empty data directory the identity of a first member, as its first start would after it
/// had asked the others.
///
/// # Errors
/// The flags name no member.
///
/// # Panics
/// The directory cannot be written.
pub fn identify(data_dir: &Path, flags: &MemberFlags) -> Result<Identity, FlagError> {
    let identity = new_member(flags)?.identity;
    identity.store(data_dir).expect("it can be written");
    Ok(identity)
}

/// Opens the directory of `config` and starts the member on the calling runtime, which lasts until it
/// knows what is committed, or five seconds.
///
/// # Errors
/// See [`BootError`].
pub async fn start(
    config: &Config,
    dial: Arc<dyn Dial>,
    arrivals: Arrivals,
    tuned: Tuned,
) -> Result<Staged, BootError> {
    let mut booted = boot::open_with(config, &dial, tuned.log)?;
    booted.log_disk_bytes = tuned.log_disk_bytes;
    let outside = Outside {
        homes: Homes::new(1).0,
        listeners: Vec::new(),
        dial,
        arrivals: Some(arrivals),
    };
    let Ready { started, seeds, .. } = Ready::new(config, booted, outside)?;
    let stopping = started.stop.subscribe();
    let duties = started.beginning.begin(&started.apply, &stopping).await?;
    let core = Arc::new(seeds.core((duties.door.clone(), duties.membership.clone())));
    let stop = started.stop;
    let ticking = tokio::task::spawn_local(async move {
        // It ends with the runtime: nobody stops a member that a simulator crashes.
        let _stop = stop;
        match duties.attend().await {}
    });
    Ok(Staged {
        log: core.log.clone(),
        core,
        _duties: ticking,
        _apply: started.apply,
        _locks: started.locks,
    })
}
