//! Asking a cluster who its members are, before this member is one of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::node::boot::BootError;
use crate::node::identity::resolve;
use crate::node::peer_service::from_message;
use crate::peer::{CallError, Clients, Dial, Directory, Limits, Local, Refusal, Standing};
use crate::state::MemberRecord;
use crate::types::{ClusterId, MemberId};

/// How long to rest before all URLs are tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a cluster says of itself.
#[derive(Debug)]
pub struct Found {
    /// Its id.
    pub cluster: ClusterId,
    /// Its members.
    pub members: Vec<MemberRecord>,
    /// Ids that were members once.
    pub removed: Vec<MemberId>,
}

/// Asks whoever answers at one of `urls`, trying again until `limit` has passed.
///
/// # Errors
/// Nobody answered: what the last one said.
pub fn ask(dial: &Arc<dyn Dial>, urls: &[String], limit: Duration) -> Result<Found, String> {
    if urls.is_empty() {
        return Err("--initial-cluster names no other member".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let clients = Clients::new(Arc::new(Nobody), dial.clone(), Limits::default());
        let anyone = clients.anyone(urls);
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match anyone.members(left).await {
                Ok(answer) => {
                    return Ok(Found {
                        cluster: ClusterId(answer.cluster),
                        members: answer.members.into_iter().map(from_message).collect(),
                        removed: answer.removed.into_iter().map(MemberId).collect(),
                    });
                }
                Err(error) if may_change(&error) && left > PAUSE => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    let (address, error) = (urls.join(","), error.to_string());
                    crate::log!(
                        warn,
                        "failed to get cluster response",
                        address = address,
                        error = error.as_str()
                    );
                    return Err(error);
                }
            }
        }
    })
}

/// Whether the same question may be answered a moment later.
fn may_change(error: &CallError) -> bool {
    !matches!(error, CallError::Refused(_))
}

/// The member that this one shall be: the one with its peer URLs. The cluster and the flags must
/// name the same members.
///
/// # Errors
/// They do not; the texts are etcd's (`ValidateClusterAndAssignIDs`).
pub fn matched<'a>(
    config: &Config,
    members: &'a [MemberRecord],
) -> Result<&'a MemberRecord, BootError> {
    let initial = &config.cluster.initial;
    if initial.len() != members.len() {
        return Err(BootError::OtherMembers("member count is unequal".into()));
    }
    let named = |member: &&MemberRecord| {
        let has = addresses(&member.peer_urls);
        initial.iter().find(|named| {
            let urls: Vec<String> = named.peer_urls.iter().map(ToString::to_string).collect();
            urls == member.peer_urls || addresses(&urls) == has
        })
    };
    let mut own = None;
    for member in members {
        let Some(named) = named(&member) else {
            let urls = member.peer_urls.join(" ");
            return Err(BootError::OtherMembers(format!(
                "PeerURLs: no match found for existing member ({}, [{urls}])",
                member.id
            )));
        };
        if named.name == config.name {
            own = Some(member);
        }
    }
    own.ok_or_else(|| BootError::OtherMembers("no member has this member's peer URLs".into()))
}

/// URLs with names resolved, where they can be.
fn addresses(urls: &[String]) -> Vec<String> {
    let mut resolved: Vec<String> = urls
        .iter()
        .map(|url| {
            let Some((scheme, rest)) = url.split_once("://") else {
                return url.clone();
            };
            let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
            match resolve(host.trim_matches(['[', ']'])) {
                Some(ip) => format!("{scheme}://{ip}:{port}"),
                None => url.clone(),
            }
        })
        .collect();
    resolved.sort();
    resolved
}

/// Somebody who does not know yet who it is: all it can do is ask who the members are.
struct Nobody;

impl Directory for Nobody {
    fn local(&self) -> Local {
        Local::default()
    }

    fn standing(&self, _member: MemberId) -> Standing {
        Standing::Unknown
    }

    fn admit(&self, _sender: MemberId) -> bool {
        false
    }

    fn refused(&self, _by: MemberId, refusal: Refusal) {
        crate::log!(warn, "a member of the cluster to join refuses to answer", error = %refusal);
    }
}
