//! Which backup is meant.

use engram_objects::KeyId;

use super::list::Listed;
use super::{BackupStore, StoreError};
use crate::format::{BackupId, Manifest, Selector, Whose};

/// The backup that is meant by this word is the newest.
pub const LATEST: &str = "latest";

/// A backup that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its manifest.
    pub manifest: Manifest,
    /// The key that it is encrypted with; none: it is not.
    pub key: Option<KeyId>,
    /// Why it was not good when it was last read back, where it was not.
    pub refuted: Option<String>,
    /// Newer ones that were passed over because they were not good when they were read back.
    pub passed_over: Vec<BackupId>,
}

impl BackupStore {
    /// Finds a backup: `wanted` is its id, or [`LATEST`]. Without a cluster all are searched;
    /// `selectors` say whose may be meant, none: anybody's.
    ///
    /// # Errors
    /// There is none, it could be of several clusters; the store refuses.
    pub async fn find(
        &self,
        cluster: Option<&BackupId>,
        selectors: &[Selector],
        wanted: &str,
    ) -> Result<Found, StoreError> {
        let clusters = match cluster {
            Some(cluster) => vec![cluster.clone()],
            None => self.clusters().await?,
        };
        let mut found = Vec::new();
        for cluster in &clusters {
            found.extend(self.find_in(cluster, selectors, wanted).await?);
        }
        if let [one] = &found[..] {
            return Ok(one.clone());
        }
        let names = found.iter().map(|one| one.manifest.cluster.to_string());
        let names: Vec<String> = names.collect();
        Err(match names.is_empty() {
            true => StoreError::NoBackup {
                wanted: wanted.to_owned(),
                store: self.url().to_owned(),
            },
            false => StoreError::Ambiguous {
                wanted: wanted.to_owned(),
                found: names.join(", "),
            },
        })
    }

    async fn find_in(
        &self,
        cluster: &BackupId,
        selectors: &[Selector],
        wanted: &str,
    ) -> Result<Option<Found>, StoreError> {
        if wanted == LATEST {
            return self.latest(cluster, selectors).await;
        }
        let Ok(id) = wanted.parse() else {
            return Ok(None);
        };
        let Some(listed) = self.listed(cluster, &id).await? else {
            return Ok(None);
        };
        let whose = listed.manifest.whose();
        if !is_selected(selectors, &whose) {
            return Err(StoreError::Another { id, whose });
        }
        Ok(Some(Found {
            refuted: listed.refutation().map(str::to_owned),
            manifest: listed.manifest,
            key: listed.key,
            passed_over: vec![],
        }))
    }

    async fn latest(
        &self,
        cluster: &BackupId,
        selectors: &[Selector],
    ) -> Result<Option<Found>, StoreError> {
        let mut listing = self.list(cluster).await?;
        listing.must_have_keys(self, cluster)?;
        // It may be the newest: nobody is given an older one without being told.
        if let Some((id, error)) = listing.damaged.pop() {
            return Err(StoreError::LatestUnknown {
                path: self.path_of(cluster, &id),
                error,
            });
        }
        let selected = |one: &Listed| is_selected(selectors, &one.manifest.whose());
        listing.backups.retain(selected);
        let mut passed_over = Vec::new();
        while let Some(last) = listing.backups.pop_if(|one| one.refutation().is_some()) {
            passed_over.push(last.manifest.id);
        }
        listing.backups.retain(|one| one.refutation().is_none());
        must_be_clear(cluster, selectors, &listing.backups)?;
        let Some(listed) = listing.backups.pop() else {
            return Ok(None);
        };
        Ok(Some(Found {
            manifest: self.whole(&listed.manifest).await?,
            key: listed.key,
            refuted: None,
            passed_over,
        }))
    }
}

/// Whether backups of this one are meant; nobody named: everybody's are.
pub(crate) fn is_selected(selectors: &[Selector], whose: &Whose) -> bool {
    selectors.is_empty() || selectors.iter().any(|one| one.matches(whose))
}

/// Refuses a mix of clusters that the selectors do not tell apart; `backups` are the oldest first.
///
/// # Errors
/// See [`StoreError::Mixed`].
pub(crate) fn must_be_clear(
    cluster: &BackupId,
    selectors: &[Selector],
    backups: &[Listed],
) -> Result<(), StoreError> {
    if selectors.is_empty() {
        return one_clusters(cluster, &backups.iter().collect::<Vec<_>>());
    }
    let vague = selectors.iter().filter(|one| one.incarnation.is_none());
    for selector in vague {
        let meant = backups
            .iter()
            .filter(|one| selector.matches(&one.manifest.whose()));
        one_clusters(cluster, &meant.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Refuses backups of clusters that have nothing to do with each other. A cluster that began as a
/// restore of another one goes on with it.
fn one_clusters(cluster: &BackupId, backups: &[&Listed]) -> Result<(), StoreError> {
    let Some(newest) = backups.last() else {
        return Ok(());
    };
    let newest = &newest.manifest;
    let is_own = |whose: &Whose| *whose == newest.whose() || newest.continues.contains(whose);
    let mut all: Vec<(Whose, &str)> = Vec::new();
    for backup in backups {
        let (whose, at) = (backup.manifest.whose(), backup.manifest.created_at.as_str());
        match all.iter_mut().find(|(known, _)| *known == whose) {
            Some(known) => known.1 = at,
            None => all.push((whose, at)),
        }
    }
    if all.iter().all(|(whose, _)| is_own(whose)) {
        return Ok(());
    }
    let found = all
        .iter()
        .map(|(whose, at)| format!("{whose}, the newest of {at}"));
    Err(StoreError::Mixed {
        cluster: cluster.clone(),
        found: found.collect::<Vec<_>>().join("; "),
    })
}
