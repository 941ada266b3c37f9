//! Where backups lie: an object store or a directory, and the names in it.
//!
//! ```text
//! <prefix>/<cluster>/<backup>/MANIFEST                  written last; removed first
//! <prefix>/<cluster>/<backup>/<attempt>/<sequence>.chunk
//! ```
//!
//! Each attempt at a backup has a directory of its own, so that two attempts under one name never
//! write over each other: the conditional put of the manifest decides which one counts.
//!
//! Owns URLs, paths and the meaning of a store's errors. Must never list a backup without manifest.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
};
use url::Url;

use crate::format::{BackupId, Manifest, ManifestError};

/// The manifest's object in a backup's directory.
const MANIFEST: &str = "MANIFEST";
/// How long a request may take: a chunk of 8 MiB over a slow line.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// How long reaching the store may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often, and for how long, a request is tried again after the store's own faults.
const RETRIES_MAX: usize = 5;
const RETRY_LIMIT: Duration = Duration::from_secs(60);
/// Manifests read at the same time while backups are listed.
const READS_AT_ONCE: usize = 8;
/// Objects removed at the same time.
const REMOVALS_AT_ONCE: usize = 8;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no store.
    #[error("--store {url}: {what}")]
    Url {
        /// The URL, without its options.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The store says so.
    #[error("{place}: {advice}: {}", root_cause(source))]
    Store {
        /// The object or directory.
        place: String,
        /// What it means, and what to do.
        advice: &'static str,
        /// What the store said.
        source: object_store::Error,
    },
    /// A manifest cannot be read.
    #[error("{place}: {source}")]
    Manifest {
        /// The object.
        place: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// No such backup.
    #[error(
        "there is no backup {wanted} in {store}: `engramctl backup list` shows those there are"
    )]
    NoBackup {
        /// What was asked for.
        wanted: String,
        /// Where.
        store: String,
    },
    /// Several.
    #[error("{wanted} could be of several clusters ({found}): name one with --cluster")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The clusters.
        found: String,
    },
    /// One of the backups cannot be read, which may be the newest.
    #[error("{path}: {error}: it may be the latest backup; name another one with --backup")]
    LatestUnknown {
        /// Which.
        path: String,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// The id is taken.
    #[error("there is a backup {0} already: choose another --name, or delete that one")]
    Exists(BackupId),
}

/// What lies at the bottom of an error: the layers above it only repeat it.
fn root_cause(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let shown = cause.to_string();
    // Stores answer with pages of XML; the beginning says what is wrong.
    match shown.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// A backup that the store lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its manifest.
    pub manifest: Manifest,
    /// Where it lies.
    pub path: String,
}

/// What is found in a cluster's directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// The whole backups, oldest first.
    pub backups: Vec<Listed>,
    /// Those with a manifest that cannot be read, and why.
    pub damaged: Vec<(BackupId, ManifestError)>,
    /// Those without a manifest: not finished, or being removed.
    pub unfinished: Vec<BackupId>,
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct BackupStore {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The URL without options, which may hold secrets.
    shown: String,
}

impl fmt::Debug for BackupStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackupStore").field(&self.shown).finish()
    }
}

impl BackupStore {
    /// Opens the store that a URL names: `file:///directory`, or
    /// `s3://bucket/prefix?endpoint=…&region=…&allow_http=true` with credentials from the `AWS_*`
    /// environment (else what the machine's role gives). Nothing is asked of it yet.
    ///
    /// # Errors
    /// The URL names none.
    pub fn open(text: &str) -> Result<BackupStore, StoreError> {
        let shown = text.split('?').next().unwrap_or_default();
        let shown = shown.trim_end_matches('/').to_owned();
        let refuse = |what: String| StoreError::Url {
            url: shown.clone(),
            what,
        };
        let url = Url::parse(text).map_err(|error| refuse(error.to_string()))?;
        let objects = match url.scheme() {
            "file" => directory(&url).map_err(&refuse)?,
            "s3" => s3(&url).map_err(&refuse)?,
            other => {
                return Err(refuse(format!(
                    "{other}:// is not known here: use s3:// or file://"
                )));
            }
        };
        let prefix = match url.scheme() {
            "s3" => Path::from_url_path(url.path()).map_err(|error| refuse(error.to_string()))?,
            _ => Path::default(),
        };
        Ok(BackupStore {
            objects,
            prefix,
            shown,
        })
    }

    /// The store's URL without options.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Where a backup lies, as a URL.
    pub fn path_of(&self, cluster: &BackupId, id: &BackupId) -> String {
        format!("{}/{cluster}/{id}", self.shown)
    }

    fn backup(&self, cluster: &BackupId, id: &BackupId) -> Path {
        self.prefix.clone().join(cluster.as_ref()).join(id.as_ref())
    }

    /// Stores a chunk; `path` is below the backup's directory.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_chunk(
        &self,
        cluster: &BackupId,
        id: &BackupId,
        path: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let place = below(self.backup(cluster, id), path);
        let put = self.objects.put(&place, bytes.into()).await;
        put.map(drop).map_err(|error| self.failed(&place, error))
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// The store refuses, or it is gone.
    pub async fn chunk(&self, manifest: &Manifest, path: &str) -> Result<Bytes, StoreError> {
        let place = below(self.backup(&manifest.cluster, &manifest.id), path);
        self.get(&place).await
    }

    async fn get(&self, place: &Path) -> Result<Bytes, StoreError> {
        let failed = |error| self.failed(place, error);
        let got = self.objects.get(place).await.map_err(failed)?;
        got.bytes().await.map_err(failed)
    }

    /// Whether a backup of this name is listed.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn has(&self, cluster: &BackupId, id: &BackupId) -> Result<bool, StoreError> {
        let place = self.backup(cluster, id).join(MANIFEST);
        match self.objects.head(&place).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(&place, error)),
        }
    }

    /// Puts the manifest, and with it the backup into the list, unless there is one of this name.
    ///
    /// # Errors
    /// There is one, or the store refuses.
    pub async fn publish(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let place = self.backup(&manifest.cluster, &manifest.id).join(MANIFEST);
        let options = PutOptions::from(PutMode::Create);
        let put = self
            .objects
            .put_opts(&place, manifest.encode().into(), options)
            .await;
        match put {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => {
                Err(StoreError::Exists(manifest.id.clone()))
            }
            Err(error) => Err(self.failed(&place, error)),
        }
    }

    /// The clusters that the store holds something of.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn clusters(&self) -> Result<Vec<BackupId>, StoreError> {
        self.names(&self.prefix).await
    }

    /// The names of directories in a directory; what is no name of ours is not looked at.
    async fn names(&self, place: &Path) -> Result<Vec<BackupId>, StoreError> {
        let listed = self.objects.list_with_delimiter(Some(place)).await;
        let listed = match listed {
            Err(object_store::Error::NotFound { .. }) if self.is_directory() => return Ok(vec![]),
            other => other.map_err(|error| self.failed(place, error))?,
        };
        let names = listed.common_prefixes.iter();
        let mut names: Vec<BackupId> = names
            .filter_map(|path| path.filename()?.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn is_directory(&self) -> bool {
        self.shown.starts_with("file:")
    }

    /// A cluster's backups.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list(&self, cluster: &BackupId) -> Result<Listing, StoreError> {
        let ids = self
            .names(&self.prefix.clone().join(cluster.as_ref()))
            .await?;
        let reads = ids.into_iter().map(|id| async move {
            let read = self.manifest(cluster, &id).await;
            (id, read)
        });
        let read: Vec<_> = futures_util::stream::iter(reads)
            .buffer_unordered(READS_AT_ONCE)
            .collect()
            .await;
        let mut listing = Listing::default();
        for (id, manifest) in read {
            match manifest {
                Ok(Some(manifest)) => listing.backups.push(Listed {
                    path: self.path_of(cluster, &id),
                    manifest,
                }),
                Ok(None) => listing.unfinished.push(id),
                Err(StoreError::Manifest { source, .. }) => listing.damaged.push((id, source)),
                Err(error) => return Err(error),
            }
        }
        // Equal times are told apart by revision, so that "latest" is one and the same for all.
        let order = |a: &Listed| {
            let manifest = &a.manifest;
            (
                manifest.created_at.clone(),
                manifest.revision,
                manifest.id.clone(),
            )
        };
        listing.backups.sort_by_key(order);
        listing.unfinished.sort();
        Ok(listing)
    }

    /// A backup's manifest; none where there is none.
    async fn manifest(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<Manifest>, StoreError> {
        let place = self.backup(cluster, id).join(MANIFEST);
        let bytes = match self.get(&place).await {
            Err(StoreError::Store {
                source: object_store::Error::NotFound { .. },
                ..
            }) => return Ok(None),
            other => other?,
        };
        let refuse = |source| StoreError::Manifest {
            place: self.show(&place),
            source,
        };
        let manifest = Manifest::decode(&bytes).map_err(refuse)?;
        // One that was copied to another name would be pruned and restored as another.
        match manifest.id == *id && manifest.cluster == *cluster {
            true => Ok(Some(manifest)),
            false => Err(refuse(ManifestError::Damaged)),
        }
    }

    /// Finds a backup: `wanted` is its id, or `latest`. Without a cluster all are searched.
    ///
    /// # Errors
    /// There is none, or several clusters have one; the store refuses.
    pub async fn find(
        &self,
        cluster: Option<&BackupId>,
        wanted: &str,
    ) -> Result<Manifest, StoreError> {
        let clusters = match cluster {
            Some(cluster) => vec![cluster.clone()],
            None => self.clusters().await?,
        };
        let mut found = Vec::new();
        for cluster in &clusters {
            found.extend(self.find_in(cluster, wanted).await?);
        }
        if let [one] = &found[..] {
            return Ok(one.clone());
        }
        let names: Vec<String> = found.iter().map(|m| m.cluster.to_string()).collect();
        Err(match names.is_empty() {
            true => StoreError::NoBackup {
                wanted: wanted.to_owned(),
                store: self.shown.clone(),
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
        wanted: &str,
    ) -> Result<Option<Manifest>, StoreError> {
        if wanted == "latest" {
            let mut listing = self.list(cluster).await?;
            // It may be the newest: nobody is given an older one without being told.
            if let Some((id, error)) = listing.damaged.pop() {
                return Err(StoreError::LatestUnknown {
                    path: self.path_of(cluster, &id),
                    error,
                });
            }
            return Ok(listing.backups.pop().map(|listed| listed.manifest));
        }
        match wanted.parse() {
            Ok(id) => self.manifest(cluster, &id).await,
            Err(_) => Ok(None),
        }
    }

    /// Removes a backup: the manifest first, so that what is listed is always whole.
    ///
    /// # Errors
    /// The store refuses; what is left is not listed any more, and can be removed again.
    pub async fn remove(&self, cluster: &BackupId, id: &BackupId) -> Result<(), StoreError> {
        let directory = self.backup(cluster, id);
        self.remove_object(&directory.clone().join(MANIFEST))
            .await?;
        let objects = self.objects.list(Some(&directory));
        let failed = |error| self.failed(&directory, error);
        objects
            .map_err(failed)
            .try_for_each_concurrent(REMOVALS_AT_ONCE, |object| async move {
                self.remove_object(&object.location).await
            })
            .await
    }

    async fn remove_object(&self, place: &Path) -> Result<(), StoreError> {
        match self.objects.delete(place).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    /// When the youngest object of an unfinished backup was written; none where there is none.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn last_written(
        &self,
        cluster: &BackupId,
        id: &BackupId,
    ) -> Result<Option<chrono::DateTime<chrono::Utc>>, StoreError> {
        let directory = self.backup(cluster, id);
        let objects = self.objects.list(Some(&directory));
        let failed = |error| self.failed(&directory, error);
        let newest = |newest: Option<_>, object: object_store::ObjectMeta| async move {
            Ok(newest.max(Some(object.last_modified)))
        };
        objects.map_err(failed).try_fold(None, newest).await
    }

    fn show(&self, place: &Path) -> String {
        let within = place.as_ref().strip_prefix(self.prefix.as_ref());
        let within = within.unwrap_or_default().trim_start_matches('/');
        format!("{}/{within}", self.shown)
    }

    fn failed(&self, place: &Path, source: object_store::Error) -> StoreError {
        StoreError::Store {
            place: self.show(place),
            advice: advice(&source),
            source,
        }
    }
}

fn advice(error: &object_store::Error) -> &'static str {
    use object_store::Error;
    let said = format!("{error:?}");
    let is_unknown_key = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "NoCredentials",
    ]
    .iter()
    .any(|code| said.contains(code));
    match error {
        Error::Unauthenticated { .. } => UNKNOWN_KEY,
        _ if is_unknown_key => UNKNOWN_KEY,
        Error::PermissionDenied { .. } => {
            "the store refuses these credentials: allow them to list, read, write and delete here"
        }
        _ if said.contains("NoSuchBucket") => {
            "there is no such bucket: create it, or correct --store"
        }
        Error::NotFound { .. } => "it is not there",
        _ => "the store failed",
    }
}

const UNKNOWN_KEY: &str =
    "the store does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

fn below(directory: Path, path: &str) -> Path {
    path.split('/')
        .fold(directory, |place, part| place.join(part))
}

fn directory(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    if url.query().is_some() || !url.host_str().unwrap_or_default().is_empty() {
        return Err("a directory is named as file:///path, without host and options".into());
    }
    let path = url.to_file_path();
    let path = path.map_err(|()| "it is no path".to_owned())?;
    // The volume must be there: a directory made beside a missing mount would hold the backups.
    let store = LocalFileSystem::new_with_prefix(&path);
    let store = store.map_err(|error| format!("the directory must be there: {error}"))?;
    let store = store.with_fsync(true).with_automatic_cleanup(true);
    Ok(Arc::new(store))
}

fn s3(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    let bucket = url.host_str().filter(|host| !host.is_empty());
    let bucket = bucket.ok_or("it names no bucket: s3://bucket/prefix")?;
    let mut client = ClientOptions::new()
        .with_timeout(REQUEST_LIMIT)
        .with_connect_timeout(CONNECT_LIMIT);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_LIMIT,
            ..RetryConfig::default()
        });
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "endpoint" => builder = builder.with_endpoint(value.into_owned()),
            "region" => builder = builder.with_region(value.into_owned()),
            "allow_http" => client = client.with_allow_http(flag(&name, &value)?),
            "virtual_hosted" => {
                builder = builder.with_virtual_hosted_style_request(flag(&name, &value)?);
            }
            other => {
                return Err(format!(
                    "option {other} is not known: endpoint, region, allow_http, virtual_hosted"
                ));
            }
        }
    }
    let built = builder.with_client_options(client).build();
    Ok(Arc::new(built.map_err(|error| error.to_string())?))
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("option {name} is true or false, not {value}"))
}
