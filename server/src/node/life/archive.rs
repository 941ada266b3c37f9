//! The log archive of this member: what the archiver (`engram-archiver`) is told, and asks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engram_archiver::{Holding, Member, Moment, Settings};
use tokio::sync::watch::Receiver;

use crate::config::{self, ENGRAM_VERSION};
use crate::metrics::Metrics;
use crate::node::barrier::Barrier;
use crate::node::leadership::LeadershipCell;
use crate::peer::Local;
use crate::propose::Proposer;
use crate::raft::LogStore;
use crate::snapshot;
use crate::store::Store;
use crate::types::Revision;

/// The store stands here now.
pub fn moment(index: u64, revision: Revision) -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = i64::try_from(since.unwrap_or_default().as_millis());
    Moment {
        index,
        revision: revision.0,
        unix_ms: unix_ms.unwrap_or(i64::MAX),
    }
}

/// What is noted and held from now on of a store that nothing is applied to yet, where the log is archived.
pub fn holding(archive: Option<&config::Archive>, store: &Arc<Store>) -> Option<Holding> {
    let at = || moment(store.applied_index(), store.revision());
    archive.map(|_| Holding::new(store, at()))
}

/// What of this member the archiver asks.
pub struct Asked {
    pub leadership: Arc<LeadershipCell>,
    pub barrier: Barrier,
    pub log: LogStore,
    pub proposer: Proposer,
}

impl Member for Asked {
    fn leads(&self) -> Option<u64> {
        let leads = self.leadership.leads();
        leads.then(|| self.leadership.term())
    }

    fn confirm(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async { matches!(self.barrier.pass_leading().await, Ok(Some(_))) })
    }

    fn written_bytes(&self) -> u64 {
        self.log.appended_bytes()
    }

    fn is_filling(&self) -> bool {
        let quota = self.proposer.quota();
        let limit = u64::try_from(quota.limit_bytes()).unwrap_or(u64::MAX);
        limit > 0 && quota.used_bytes() > limit / 10 * 8
    }
}

/// Starts the archiver.
///
/// # Errors
/// The cluster's name there is none, or the system has no thread to give.
pub fn start(
    archive: &config::Archive,
    local: Local,
    store: Arc<Store>,
    holding: Holding,
    asked: Asked,
    metrics: &Metrics,
    stopping: Receiver<bool>,
) -> io::Result<()> {
    let cluster = archive.cluster.parse();
    let settings = Settings {
        url: archive.url.clone(),
        cluster: cluster.map_err(|error| io::Error::other(format!("--archive-cluster {error}")))?,
        key_files: archive.key_files.clone(),
        cluster_id: local.cluster.to_string(),
        member_id: local.member.to_string(),
        version: ENGRAM_VERSION.to_owned(),
        delay_max: archive.delay_max,
        segment_bytes: archive.segment_bytes,
        backlog_bytes: archive.backlog_bytes,
        auth_rows: snapshot::auth_rows,
    };
    let registry = metrics.registry();
    // It ends by itself, with what it is in the middle of left as it is.
    let asked = Arc::new(asked);
    engram_archiver::start(settings, store, holding, asked, registry, stopping).map(drop)
}
