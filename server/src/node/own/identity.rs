//! Whose a data directory is: named by the flags where it is new, told by the directory itself
//! where it is not, and by the cluster where it joins one.
//!
//! Source of the steps: `bootstrapNewClusterNoWAL` and `bootstrapExistingClusterNoWAL` of etcd's
//! bootstrap.go. Unlike etcd a member that lost its data directory is refused in both: with an
//! empty log it could vote, and confirm, against what it did before.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ClusterState, Config};
use crate::node::boot::BootError;
use crate::node::join::{self, Found};
use crate::node::member_id;
use crate::peer::Dial;
use crate::state::MemberRecord;
use crate::storage::Identity;
use crate::types::MemberId;

/// How long the others are asked whether this member is known to them already. A cluster that is
/// just being formed refuses the connection at once.
const KNOWN_LIMIT: Duration = Duration::from_secs(1);
/// How long the members of an existing cluster are asked who they are.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// A first member: its id and its peer URLs.
pub type FirstMember = (MemberId, Vec<String>);

/// The members that `--initial-cluster` names, ascending by id.
pub fn first_members(config: &Config) -> Vec<FirstMember> {
    let named = config.cluster.initial.iter().map(|member| {
        let urls: Vec<String> = member.peer_urls.iter().map(ToString::to_string).collect();
        (member_id::member_id(&urls, &config.cluster.token), urls)
    });
    let mut members: Vec<FirstMember> = named.collect();
    members.sort();
    members
}

/// The identity that a member without data shall have: the flags are checked and the others asked.
///
/// # Errors
/// The flags do not name this member, or the cluster refuses it: see [`BootError`].
pub fn choose(config: &Config, dial: &Arc<dyn Dial>) -> Result<Identity, BootError> {
    match config.cluster.state {
        ClusterState::New => form(config, dial),
        ClusterState::Existing => join_existing(config, dial),
    }
}

/// Checks that the flags do not name another member than the one whose directory this is. Flags
/// that name a whole cluster are those of its first start, as in etcd: members have come and gone
/// since, and moved.
///
/// # Errors
/// They name a cluster of one other member.
pub fn refuse_other(config: &Config, found: &Identity) -> Result<(), BootError> {
    let members = first_members(config);
    let [(wanted, _)] = members[..] else {
        return Ok(());
    };
    let wanted_cluster = member_id::cluster_id(&[wanted]);
    let is_asked_for =
        config.cluster.state == ClusterState::New && !config.cluster.force_new_cluster;
    if found.member == wanted || !is_asked_for {
        return Ok(());
    }
    Err(BootError::OtherMember {
        found: found.member,
        found_cluster: found.cluster,
        wanted,
        wanted_cluster,
    })
}

fn form(config: &Config, dial: &Arc<dyn Dial>) -> Result<Identity, BootError> {
    config.verify_bootstrap(&resolve)?;
    let members = first_members(config);
    let ids: Vec<MemberId> = members.iter().map(|(id, _)| *id).collect();
    let identity = Identity {
        cluster: member_id::cluster_id(&ids),
        member: own_id(config),
        incarnation: random_u64(),
    };
    let others = urls_of_others(config);
    if others.is_empty() {
        return Ok(identity);
    }
    // Nobody answering is what the first start of a cluster looks like.
    if let Ok(Found {
        cluster,
        members,
        removed,
        ..
    }) = join::ask(dial, &others, KNOWN_LIMIT)
        && cluster == identity.cluster
    {
        let known = members.iter().find(|member| member.id == identity.member);
        if removed.contains(&identity.member) || known.is_some_and(is_bootstrapped) {
            return Err(BootError::AlreadyBootstrapped(identity.member));
        }
    }
    Ok(identity)
}

fn join_existing(config: &Config, dial: &Arc<dyn Dial>) -> Result<Identity, BootError> {
    config.verify_join_existing()?;
    let found =
        join::ask(dial, &urls_of_others(config), JOIN_LIMIT).map_err(BootError::NobodyToJoin)?;
    let own = join::matched(config, &found.members)?;
    if is_bootstrapped(own) {
        return Err(BootError::AlreadyBootstrapped(own.id));
    }
    Ok(Identity {
        cluster: found.cluster,
        member: own.id,
        incarnation: random_u64(),
    })
}

/// A member that has published an incarnation has had a data directory.
fn is_bootstrapped(member: &MemberRecord) -> bool {
    member.incarnation != 0
}

/// The id of the member that the flags name as this one.
pub fn own_id(config: &Config) -> MemberId {
    let own = config
        .cluster
        .initial
        .iter()
        .find(|member| member.name == config.name);
    let urls: Vec<String> = own
        .map(|member| member.peer_urls.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    member_id::member_id(&urls, &config.cluster.token)
}

fn urls_of_others(config: &Config) -> Vec<String> {
    let others = config
        .cluster
        .initial
        .iter()
        .filter(|member| member.name != config.name);
    let urls = others.flat_map(|member| member.peer_urls.iter().map(ToString::to_string));
    urls.collect()
}

/// The first address of a host name, as the system tells it.
pub fn resolve(host: &str) -> Option<IpAddr> {
    let mut addresses = (host, 0).to_socket_addrs().ok()?;
    addresses.next().map(|address| address.ip())
}

/// A random number that is not 0, from the hasher that the standard library seeds from the system.
pub fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        .max(1)
}
