//! An open store: objects by their names, and what a name is to people.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{
    GetResult, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
};

use crate::cipher::{CipherError, HEADER_BYTES, KeyId, Keys, encrypted_head, key_of};
use crate::error::{ObjectError, is_locked, is_missing, is_there};
use crate::{directory, staged};

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The URL without options, which may hold secrets.
    shown: String,
    keys: Keys,
    /// Where it is a directory: which.
    root: Option<PathBuf>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.shown).finish()
    }
}

/// An object's bytes.
async fn whole(found: GetResult) -> object_store::Result<Bytes> {
    let length = found.range.end - found.range.start;
    match (found.payload, usize::try_from(length)) {
        (GetResultPayload::File(file, _), Ok(length)) if found.range.start == 0 => {
            on_disk(move || directory::read(file, length)).await
        }
        (payload, _) => GetResult { payload, ..found }.bytes().await,
    }
}

/// Work that waits for a disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> object_store::Result<T> {
    let failed = |source: io::Error| object_store::Error::Generic {
        store: "LocalFileSystem",
        source: source.into(),
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| failed(error.into()))?.map_err(failed)
}

/// What became of an object that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was.
    Now,
    /// One of this name is there. It may be this very one, where an answer was lost on the way.
    There,
}

impl Objects {
    /// The store with everything below `prefix`; `shown` is its URL without options.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, shown: String) -> Objects {
        Objects {
            store,
            prefix,
            shown,
            keys: Keys::default(),
            root: None,
        }
    }

    /// The store, which is this directory.
    #[must_use]
    pub(crate) fn in_directory(self, root: PathBuf) -> Objects {
        Objects {
            root: Some(root),
            ..self
        }
    }

    /// Removes what writes of objects with such names that were cut short before a moment have left below a place,
    /// where the store is a directory: no list shows it. How many files there were.
    ///
    /// # Errors
    /// The file system refuses.
    pub async fn remove_staged(
        &self,
        place: &Path,
        before: SystemTime,
        is_ours: fn(&str) -> bool,
    ) -> Result<u64, ObjectError> {
        let Some(root) = &self.root else {
            return Ok(0);
        };
        let name: &str = place.as_ref();
        let directory = root.join(name);
        let removed = on_disk(move || staged::remove(&directory, before, is_ours)).await;
        removed.map_err(|error| self.failed(place, error))
    }

    /// The store, where objects are encrypted with the first of these keys, and decrypted with each.
    #[must_use]
    pub fn with_keys(self, keys: Keys) -> Objects {
        Objects { keys, ..self }
    }

    /// The keys that objects are encrypted and decrypted with.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The store's URL without options.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Where everything of ours lies in it.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The store itself.
    pub fn raw(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// A name as a URL.
    pub fn show(&self, place: &Path) -> String {
        format!("{}/{}", self.shown, self.name(place))
    }

    /// A name below the prefix: what an object is called wherever the store is moved to.
    pub fn name<'p>(&self, place: &'p Path) -> &'p str {
        let within = place.as_ref().strip_prefix(self.prefix.as_ref());
        within.unwrap_or_default().trim_start_matches('/')
    }

    /// What the store said of a place.
    pub fn failed(&self, place: &Path, source: object_store::Error) -> ObjectError {
        ObjectError::Store {
            place: self.show(place),
            source,
        }
    }

    /// An object, whole; none where it is not there.
    ///
    /// # Errors
    /// The store refuses, or it cannot be decrypted.
    pub async fn get(&self, place: &Path) -> Result<Option<Bytes>, ObjectError> {
        let found = self.get_with_key(place).await?;
        Ok(found.map(|(bytes, _)| bytes))
    }

    /// The same, with the key that it is encrypted with; none: it is not.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn get_with_key(
        &self,
        place: &Path,
    ) -> Result<Option<(Bytes, Option<KeyId>)>, ObjectError> {
        let read = self.whole(place).await;
        let decrypt = |bytes: Bytes| {
            let key = key_of(&bytes)?;
            Ok((self.keys.decrypt(self.name(place), bytes)?, key))
        };
        self.found(place, read, decrypt)
    }

    async fn whole(&self, place: &Path) -> object_store::Result<Bytes> {
        self.must_be_a_file(place).await?;
        whole(self.store.get(place).await?).await
    }

    /// Where the store is a directory, something that is no file is no object there: whoever opened a pipe would wait
    /// for ever.
    async fn must_be_a_file(&self, place: &Path) -> object_store::Result<()> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        let name: &str = place.as_ref();
        let path = root.join(name);
        match on_disk(move || Ok(directory::is_no_file(&path))).await? {
            false => Ok(()),
            true => Err(object_store::Error::NotFound {
                path: place.to_string(),
                source: "what lies there is no file, but a pipe, a socket or a device".into(),
            }),
        }
    }

    /// What the store says of an object.
    async fn head(&self, place: &Path) -> object_store::Result<ObjectMeta> {
        self.must_be_a_file(place).await?;
        self.store.head(place).await
    }

    /// The first bytes of an object, so many where it has them; none where it is not there.
    ///
    /// # Errors
    /// The store refuses, or it cannot be decrypted.
    pub async fn get_head(&self, place: &Path, bytes: u64) -> Result<Option<Bytes>, ObjectError> {
        let asked = encrypted_head(bytes);
        let decrypt = |there| self.keys.decrypt_head(self.name(place), there, asked);
        let read = self.first_bytes(place, asked).await;
        self.found(place, read, decrypt)
    }

    async fn first_bytes(&self, place: &Path, asked: u64) -> object_store::Result<Bytes> {
        self.must_be_a_file(place).await?;
        match self.store.get_range(place, 0..asked).await {
            // Stores have no first bytes of an object without any.
            Err(error) if !is_missing(&error) && self.is_empty(place).await => Ok(Bytes::new()),
            read => read,
        }
    }

    /// Whether there is an object of this name.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn has(&self, place: &Path) -> Result<bool, ObjectError> {
        Ok(self.size(place).await?.is_some())
    }

    /// The bytes of an object as it is stored; none where it is not there.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn size(&self, place: &Path) -> Result<Option<u64>, ObjectError> {
        match self.head(place).await {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    async fn is_empty(&self, place: &Path) -> bool {
        let head = self.head(place).await;
        head.is_ok_and(|found| found.size == 0)
    }

    /// The key that an object is encrypted with, whether it is given or not, by its first bytes alone; within,
    /// none: it is not encrypted. None where it is not there.
    ///
    /// # Errors
    /// The store refuses, it is empty, or it ends within its header.
    pub async fn key_of(&self, place: &Path) -> Result<Option<Option<KeyId>>, ObjectError> {
        let bytes = u64::try_from(HEADER_BYTES).expect("a constant fits");
        let read = self.first_bytes(place, bytes).await;
        self.found(place, read, |bytes| match bytes.is_empty() {
            true => Err(CipherError::Short),
            false => key_of(&bytes),
        })
    }

    fn found<T>(
        &self,
        place: &Path,
        read: object_store::Result<Bytes>,
        decrypt: impl FnOnce(Bytes) -> Result<T, CipherError>,
    ) -> Result<Option<T>, ObjectError> {
        match read {
            Ok(bytes) => {
                let failed = |source| ObjectError::Cipher {
                    place: self.show(place),
                    source,
                };
                decrypt(bytes).map(Some).map_err(failed)
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    /// Creates an object where there is none of that name.
    ///
    /// # Errors
    /// The store refuses; it may have been created all the same.
    pub async fn create(&self, place: &Path, bytes: Bytes) -> Result<Created, ObjectError> {
        let bytes = self.keys.encrypt(self.name(place), bytes);
        self.create_as_is(place, bytes).await
    }

    /// The same of bytes that are encrypted already, or are to be read by anybody.
    ///
    /// # Errors
    /// As [`Objects::create`].
    pub async fn create_as_is(&self, place: &Path, bytes: Bytes) -> Result<Created, ObjectError> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(place, bytes.into(), options).await {
            Ok(_) => Ok(Created::Now),
            // What a retention keeps is there.
            Err(error) if is_there(&error) || is_locked(&error) => Ok(Created::There),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    /// Stores an object, over the one of that name.
    ///
    /// # Errors
    /// As [`Objects::put_as_is`].
    pub async fn put(&self, place: &Path, bytes: Bytes) -> Result<(), ObjectError> {
        let bytes = self.keys.encrypt(self.name(place), bytes);
        self.put_as_is(place, bytes).await
    }

    /// The same of what is to be read by anybody.
    ///
    /// # Errors
    /// The store refuses, or keeps what is there by a retention of its own.
    pub async fn put_as_is(&self, place: &Path, bytes: Bytes) -> Result<(), ObjectError> {
        if let Some(root) = &self.root
            && directory::takes(&bytes)
        {
            let name: &str = place.as_ref();
            let (path, bytes) = (root.join(name), bytes.clone());
            let put = on_disk(move || directory::put(&path, &bytes)).await;
            if put.map_err(|error| self.failed(place, error))? {
                return Ok(());
            }
        }
        let put = self.store.put(place, bytes.into()).await;
        put.map(drop).map_err(|error| self.refused(place, error))
    }

    /// What the store said to whoever wanted to change what is there.
    fn refused(&self, place: &Path, source: object_store::Error) -> ObjectError {
        match is_locked(&source) {
            true => ObjectError::Locked {
                place: self.show(place),
                source,
            },
            false => self.failed(place, source),
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store refuses, or keeps it by a retention of its own.
    pub async fn remove(&self, place: &Path) -> Result<(), ObjectError> {
        match self.store.delete(place).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.refused(place, error)),
        }
    }

    /// The names of the directories in a directory, ascending.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn directories(&self, place: &Path) -> Result<Vec<String>, ObjectError> {
        if let Some(listed) = self.in_root(place, directory::directories).await {
            return listed;
        }
        let listed = match self.store.list_with_delimiter(Some(place)).await {
            Err(error) if is_missing(&error) => return Ok(vec![]),
            other => other.map_err(|error| self.failed(place, error))?,
        };
        let names = listed.common_prefixes.iter();
        let mut names: Vec<String> = names
            .filter_map(|path| Some(path.filename()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// What is asked of the directory that a place is, where the store is one.
    async fn in_root<T: Send + 'static>(
        &self,
        place: &Path,
        ask: fn(&std::path::Path) -> io::Result<T>,
    ) -> Option<Result<T, ObjectError>> {
        let name: &str = place.as_ref();
        let path = self.root.as_ref()?.join(name);
        let answer = on_disk(move || ask(&path)).await;
        Some(answer.map_err(|error| self.failed(place, error)))
    }

    /// The objects right in a directory, ascending, with their bytes.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn files(&self, place: &Path) -> Result<Vec<(String, u64)>, ObjectError> {
        if let Some(listed) = self.in_root(place, directory::files).await {
            return listed;
        }
        let listed: Vec<_> = match self.store.list(Some(place)).try_collect().await {
            Err(error) if is_missing(&error) => return Ok(vec![]),
            other => other.map_err(|error| self.failed(place, error))?,
        };
        let name = |object: object_store::ObjectMeta| {
            let depth = object.location.parts().count();
            let is_right_here = depth == place.parts().count() + 1;
            let name = object.location.filename().filter(|_| is_right_here)?;
            Some((name.to_owned(), object.size))
        };
        let mut names: Vec<(String, u64)> = listed.into_iter().filter_map(name).collect();
        names.sort();
        Ok(names)
    }
}
