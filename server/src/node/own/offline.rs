//! A member that does not run: who it will be, by the flags it will be started with; what its directory
//! holds; what can be done with it, and that it goes on alone.

mod alone;
mod defragment;
mod held;

use std::ffi::OsString;

use crate::config::{self, BootstrapError, Config, Outcome};
use crate::node::boot::BootError;
use crate::node::{identity, member_id};
use crate::raft;
use crate::snapshot::restore::{FIRST, NewMember};
use crate::state::MemberRecord;
use crate::storage::Identity;
use crate::types::MemberId;
use crate::types::request::MemberAttributes;

pub use self::alone::{AloneError, FILE as ALONE, go_alone};
pub use self::defragment::{DefragmentError, defragment};
pub use self::held::{Held, HeldError, HeldMember, look};

/// The flags of `etcdutl snapshot restore` that say who the new member is. They are checked, and
/// give ids, as those of the server do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFlags {
    /// `--name`.
    pub name: String,
    /// `--initial-cluster`.
    pub initial_cluster: String,
    /// `--initial-cluster-token`.
    pub token: String,
    /// `--initial-advertise-peer-urls`.
    pub peer_urls: String,
}

/// Why the flags name no member.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// A flag cannot be read.
    #[error("{0}")]
    Invalid(String),
    /// They contradict each other.
    #[error(transparent)]
    Bootstrap(#[from] BootError),
}

/// The member that the flags name, in a cluster of its own, with a new incarnation.
///
/// # Errors
/// See [`FlagError`].
pub fn new_member(flags: &MemberFlags) -> Result<NewMember, FlagError> {
    let config = parse(flags)?;
    // A server that is only given a name is its cluster's only member; etcdutl takes no such hint.
    let checked = match config.cluster.initial_follows_name {
        true => Err(BootstrapError::LocalNameMissing(flags.name.clone())),
        false => config.verify_bootstrap(&identity::resolve),
    };
    checked.map_err(BootError::Bootstrap)?;
    let first = identity::first_members(&config);
    let ids: Vec<MemberId> = first.iter().map(|(id, _)| *id).collect();
    let names = names(&config);
    let members = first.iter().map(|(id, peer_urls)| MemberRecord {
        id: *id,
        // Each publishes its own when it starts.
        incarnation: 0,
        peer_urls: peer_urls.clone(),
        learner: false,
        attributes: MemberAttributes {
            name: names(*id),
            client_urls: Vec::new(),
            apply_version: 0,
        },
    });
    Ok(NewMember {
        identity: Identity {
            cluster: member_id::cluster_id(&ids),
            member: identity::own_id(&config),
            incarnation: identity::random_u64(),
        },
        members: members.collect(),
        membership: raft::first_membership(&first),
        position: FIRST,
    })
}

/// The name that `--initial-cluster` gives to a member.
fn names(config: &Config) -> impl Fn(MemberId) -> String + '_ {
    |id| {
        let named = config.cluster.initial.iter().find(|member| {
            let urls: Vec<String> = member.peer_urls.iter().map(ToString::to_string).collect();
            member_id::member_id(&urls, &config.cluster.token) == id
        });
        named.map(|member| member.name.clone()).unwrap_or_default()
    }
}

fn parse(flags: &MemberFlags) -> Result<Config, FlagError> {
    let arguments = [
        ("name", &flags.name),
        ("initial-cluster", &flags.initial_cluster),
        ("initial-cluster-token", &flags.token),
        ("initial-advertise-peer-urls", &flags.peer_urls),
    ];
    let arguments = arguments.map(|(name, value)| OsString::from(format!("--{name}={value}")));
    let no_file = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    match config::parse(arguments.into_iter(), std::iter::empty(), &no_file) {
        Outcome::Run { config, .. } => Ok(*config),
        Outcome::Fail(failure) => Err(FlagError::Invalid(failure.message)),
        Outcome::Print { text, .. } => Err(FlagError::Invalid(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> NewMember {
        let flags = MemberFlags {
            name: name.to_owned(),
            initial_cluster: "m1=http://127.0.0.1:1,m2=http://127.0.0.1:2".into(),
            token: "t".into(),
            peer_urls: format!("http://127.0.0.1:{}", &name[1..]),
        };
        new_member(&flags).expect("a member")
    }

    #[test]
    fn members_of_one_cluster_differ_in_id_and_incarnation() {
        let [m1, m2] = ["m1", "m2"].map(|name| member(name).identity);
        assert_eq!(m1.cluster, m2.cluster);
        assert_ne!(m1.member, m2.member);
        assert_ne!(m1.incarnation, m2.incarnation);
    }
}
