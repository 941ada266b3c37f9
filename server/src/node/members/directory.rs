//! Who is who among the members, out of the member table, and where they are reached; and what it
//! means when a peer refuses to hear this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::config::ListenUrl;
use crate::peer::{Directory, Local, Refusal, Standing};
use crate::store::Store;
use crate::types::MemberId;

/// The most URLs of a member that are tried beside those of the member table.
const HEARD_URLS_MAX: usize = 8;

/// The member table, as the peer room asks it.
pub struct MemberDirectory {
    local: Local,
    store: Arc<Store>,
    listens: Arc<str>,
    /// Where members of the table said that they are reached: a pod comes back at another address,
    /// and nobody told the cluster.
    heard: Mutex<BTreeMap<MemberId, Arc<str>>>,
    /// Members that do not hold what they had acknowledged to this one, and their incarnations.
    forgetful: Mutex<BTreeMap<MemberId, u64>>,
    /// Told when [`MemberDirectory::addresses`] may have changed.
    moved: Notify,
    expelled: watch::Sender<Option<Refusal>>,
}

impl MemberDirectory {
    /// The directory of the member `local`, which its peers reach at the URLs `listens`, separated
    /// by commas.
    pub fn new(local: Local, store: Arc<Store>, listens: &str) -> MemberDirectory {
        MemberDirectory {
            local,
            store,
            listens: listens.into(),
            heard: Mutex::default(),
            forgetful: Mutex::default(),
            moved: Notify::new(),
            expelled: watch::channel(None).0,
        }
    }

    /// Tells when this member is one no more, and why.
    pub fn expelled(&self) -> watch::Receiver<Option<Refusal>> {
        self.expelled.subscribe()
    }

    /// Looks into the table: a member that is named there as removed is one no more.
    pub fn look(&self) {
        if self.store.cluster().members.is_removed(self.local.member) {
            self.expelled.send_replace(Some(Refusal::SenderRemoved));
        }
        self.moved.notify_one();
    }

    /// Where the other members are reached: where they say that they are, and where the table says.
    pub fn addresses(&self) -> Vec<(MemberId, Vec<String>)> {
        let heard = self.heard.lock().clone();
        let cluster = self.store.cluster();
        let others = cluster
            .members
            .iter()
            .filter(|member| member.id != self.local.member);
        others
            .map(|member| {
                let said = heard.get(&member.id).map_or("", |listens| &**listens);
                (member.id, reached_at(said, &member.peer_urls))
            })
            .collect()
    }

    /// The data directory of a member, as the table has it.
    fn incarnation(&self, id: MemberId) -> Option<u64> {
        let cluster = self.store.cluster();
        cluster.members.get(id).map(|member| member.incarnation)
    }

    /// Resolves once the addresses may have changed.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }
}

/// The URLs to try, in turn. What a member says of itself is newer than the table, and nobody else
/// can say it; who answers there is checked all the same. It does not get around TLS.
fn reached_at(said: &str, table: &[String]) -> Vec<String> {
    fn scheme(url: &str) -> &str {
        url.split_once("://").map_or("", |(scheme, _)| scheme)
    }
    let usable = |url: &&str| {
        let same_scheme = table.iter().any(|known| scheme(known) == scheme(url));
        same_scheme && ListenUrl::parse(url).is_ok()
    };
    let said = said.split(',').filter(usable).take(HEARD_URLS_MAX);
    let mut urls: Vec<String> = said.map(str::to_owned).collect();
    let known = table.iter().filter(|url| !urls.contains(url));
    let known: Vec<String> = known.cloned().collect();
    // As long as it says nothing new, the table's order counts.
    if known.len() + urls.len() == table.len() {
        return table.to_vec();
    }
    urls.extend(known);
    urls
}

impl Directory for MemberDirectory {
    fn local(&self) -> Local {
        self.local
    }

    fn standing(&self, member: MemberId) -> Standing {
        let cluster = self.store.cluster();
        if cluster.members.is_removed(member) {
            return Standing::Removed;
        }
        match cluster.members.get(member) {
            Some(record) => Standing::Member {
                incarnation: record.incarnation,
            },
            None => Standing::Unknown,
        }
    }

    fn admit(&self, _sender: MemberId) -> bool {
        true
    }

    fn listens(&self) -> Arc<str> {
        self.listens.clone()
    }

    fn heard(&self, sender: MemberId, listens: &str) {
        let mut heard = self.heard.lock();
        if heard.get(&sender).is_some_and(|known| **known == *listens) {
            return;
        }
        // Bounded: only members of the table are heard.
        heard.insert(sender, listens.into());
        drop(heard);
        let table = {
            let cluster = self.store.cluster();
            let member = cluster.members.get(sender);
            member.map_or_else(Vec::new, |member| member.peer_urls.clone())
        };
        if reached_at(listens, &table) != table {
            crate::log!(warn, "a member is reached elsewhere than the member table says: run `etcdctl member update`",
                peer = %sender, listens = listens, "peer-urls" = table.join(","));
        }
        self.moved.notify_one();
    }

    fn forgot(&self, member: MemberId) {
        let Some(incarnation) = self.incarnation(member) else {
            return;
        };
        let before = self.forgetful.lock().insert(member, incarnation);
        if before != Some(incarnation) {
            crate::log!(error, "a member has lost entries that it had acknowledged: its data directory is an older copy of it. It is not heard any more: remove it and add it anew with an empty data directory",
                peer = %member);
        }
    }

    fn has_forgotten(&self, member: MemberId) -> bool {
        let noted = self.forgetful.lock().get(&member).copied();
        noted.is_some() && noted == self.incarnation(member)
    }

    fn refused(&self, by: MemberId, refusal: Refusal) {
        match refusal {
            Refusal::SenderRemoved | Refusal::SenderReplaced | Refusal::SenderForgot => {
                self.expelled.send_replace(Some(refusal));
            }
            other => {
                crate::log!(warn, "a peer refuses to hear this member", peer = %by, error = %other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_member_says_it_is_comes_first_and_the_table_stays() {
        let table = ["http://10.0.0.1:2380".to_owned()];
        let urls = |said| reached_at(said, &table);
        assert_eq!(urls(""), table);
        assert_eq!(urls("http://10.0.0.1:2380"), table);
        assert_eq!(
            urls("http://10.0.0.9:2380"),
            ["http://10.0.0.9:2380", "http://10.0.0.1:2380"]
        );
        assert_eq!(urls("nonsense,,http://"), table);
        let many: Vec<String> = (0..99).map(|n| format!("http://h:{}", 1000 + n)).collect();
        assert_eq!(urls(&many.join(",")).len(), HEARD_URLS_MAX + 1);
    }

    #[test]
    fn nobody_is_led_away_from_tls() {
        let table = ["https://a:2380".to_owned()];
        assert_eq!(reached_at("http://b:2380", &table), table);
        let moved = ["https://b:2380", "https://a:2380"];
        assert_eq!(reached_at("https://b:2380", &table), moved);
    }

    #[test]
    fn two_urls_in_another_order_are_the_same() {
        let table = ["http://a:1".to_owned(), "http://b:2".to_owned()];
        assert_eq!(reached_at("http://b:2,http://a:1", &table), table);
        assert_eq!(reached_at("http://b:2", &table), table);
    }
}
