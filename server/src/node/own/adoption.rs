//! An etcd's directory in the data directory, at the start: adopted, left alone, or refused.

use std::sync::Arc;
use std::time::Duration;

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::adopt::{self, AdoptError, Adoption, Plan, Rules, Source};
use crate::config::Config;
use crate::fs::{self, FileLock};
use crate::node::boot::BootError;
use crate::node::etcd_directory::{self, Contents};
use crate::node::options::lease_ttl_min;
use crate::node::{identity, own_log};
use crate::peer::Dial;
use crate::storage::Identity;
use crate::types::MemberId;

/// How long each member of etcd's cluster is given to say that it still runs.
/// A machine that is gone costs that much once, a port where nobody listens nothing.
const RUNS_LIMIT: Duration = Duration::from_secs(5);
/// What etcd's transport answers on the peer port, and nobody else. Bytes that are read of it.
const PROBE: &str = "GET /raft/probing HTTP/1.0\r\nHost: peer\r\n\r\n";
const PROBE_BYTES: usize = 1024;

/// How entries of etcd's log are read under these flags.
pub fn rules(config: &Config) -> Rules {
    Rules {
        lease_ttl_min: lease_ttl_min(config.raft.election_timeout),
        learners_max: config.cluster.learners_max,
    }
}

/// Looks whether an etcd's directory lies in the data directory, and adopts it where the directory is
/// nobody's yet. The lock keeps every etcd out as long as its files are there.
///
/// # Errors
/// It cannot be adopted, or an etcd was started on a directory that is engram's: see [`BootError`].
pub fn settle(
    config: &Config,
    dial: &Arc<dyn Dial>,
    wal_dir: &Path,
) -> Result<Option<FileLock>, BootError> {
    let dir = &config.data_dir;
    let member = dir.join(adopt::ETCD_DIR);
    let is_unfinished = fs::is_dir(&dir.join(adopt::UNFINISHED));
    if !fs::is_dir(&member) {
        return match is_unfinished {
            true => Err(AdoptError::Vanished(dir.clone()).into()),
            false => Ok(None),
        };
    }
    let contents = etcd_directory::look(&member);
    if contents == Contents::Nothing {
        return Ok(None);
    }
    let source = Source::new(dir, config.wal_dir.as_deref());
    let refused = |source| BootError::EtcdData {
        dir: dir.clone(),
        source,
    };
    let is_ours = !is_unfinished && Identity::load(dir)?.is_some();
    if !is_ours {
        own_log::refuse_other(dir, wal_dir, None)?;
        let lock = source.lock().map_err(refused)?;
        let plan = source.plan(rules(config)).map_err(refused)?;
        refuse_running(dial, &plan, dir)?;
        adopt_now(plan, dir).map_err(refused)?;
        return Ok(lock);
    }
    let adoption = Adoption::load(dir).map_err(AdoptError::from)?;
    match (adoption.filter(|adoption| !adoption.finished), contents) {
        (Some(adoption), _) => {
            let lock = source.lock()?;
            if !adopt::is_unchanged(&adoption)? {
                return Err(BootError::EtcdAgain(member));
            }
            crate::log!(info, "etcd's files still lie beside the data that was adopted from them; \
                `engramctl adopt --finish` removes them", directory = %member.display());
            Ok(lock)
        }
        (None, Contents::Data) => Err(BootError::EtcdBeside(member)),
        (None, _) => {
            crate::log!(warn, "an etcd was started on this data directory: nobody wrote to it, so \
                engram goes on with its own data and leaves that directory alone; it can be removed",
                directory = %member.display());
            Ok(None)
        }
    }
}

fn adopt_now(plan: Plan, dir: &Path) -> Result<(), AdoptError> {
    let (member, members) = (plan.member(), plan.members().len());
    let (position, entries) = (plan.position(), plan.entries());
    crate::log!(info, "adopting etcd's data directory", "data-dir" = %dir.display(),
        "member-id" = %member, members = members, "consistent-index" = position.index,
        term = position.term, "entries-in-log" = entries);
    plan.adopt(identity::random_u64())?;
    crate::log!(info, "adopted etcd's data directory: its files stay until `engramctl adopt --finish`",
        "data-dir" = %dir.display());
    Ok(())
}

/// Refuses where another member of the cluster still runs etcd: each would take the other for down,
/// and whoever is a majority would go on without the rest.
fn refuse_running(dial: &Arc<dyn Dial>, plan: &Plan, dir: &Path) -> Result<(), BootError> {
    let others = plan
        .members()
        .iter()
        .filter(|member| member.id != plan.member());
    let urls: Vec<(MemberId, String)> = others
        .flat_map(|member| member.peer_urls.iter().map(|url| (member.id, url.clone())))
        .collect();
    if urls.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| BootError::System {
        what: "asking whether etcd still runs".into(),
        source,
    })?;
    let running = runtime.block_on(async {
        let asked = urls.iter().map(|(_, url)| runs_etcd(dial, url));
        futures_util::future::join_all(asked).await
    });
    match urls.into_iter().zip(running).find(|(_, runs)| *runs) {
        None => Ok(()),
        Some(((member, url), _)) => Err(BootError::EtcdRuns {
            dir: dir.to_path_buf(),
            member,
            url,
        }),
    }
}

/// Whether an etcd answers at this peer URL. Nobody answering is what is wanted.
async fn runs_etcd(dial: &Arc<dyn Dial>, url: &str) -> bool {
    let ask = async {
        let mut stream = dial.dial(url).await.ok()?;
        stream.write_all(PROBE.as_bytes()).await.ok()?;
        let (mut answer, mut len) = ([0; PROBE_BYTES], 0);
        while len < PROBE_BYTES && !is_of_etcd(&answer[..len]) {
            match stream.read(&mut answer[len..]).await.ok()? {
                0 => break,
                more => len += more,
            }
        }
        Some(is_of_etcd(&answer[..len]))
    };
    let answered = tokio::time::timeout(RUNS_LIMIT, ask).await;
    answered.ok().flatten().unwrap_or(false)
}

/// Whether this is what etcd's transport answers; the connection may stay open behind it.
fn is_of_etcd(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    answer.contains(" 200 ") && answer.contains("\"OK\":true")
}
