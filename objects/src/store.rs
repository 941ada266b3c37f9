//! An open store: objects by their names, and what a name is to people.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use crate::error::{ObjectError, is_missing};

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The URL without options, which may hold secrets.
    shown: String,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.shown).finish()
    }
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
        }
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
        let within = place.as_ref().strip_prefix(self.prefix.as_ref());
        let within = within.unwrap_or_default().trim_start_matches('/');
        format!("{}/{within}", self.shown)
    }

    fn failed(&self, place: &Path, source: object_store::Error) -> ObjectError {
        ObjectError::Store {
            place: self.show(place),
            source,
        }
    }

    /// An object, whole; none where it is not there.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn get(&self, place: &Path) -> Result<Option<Bytes>, ObjectError> {
        let read = match self.store.get(place).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        self.found(place, read)
    }

    /// The first bytes of an object, at most so many; none where it is not there.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn get_head(&self, place: &Path, bytes: u64) -> Result<Option<Bytes>, ObjectError> {
        self.found(place, self.store.get_range(place, 0..bytes).await)
    }

    fn found(
        &self,
        place: &Path,
        read: object_store::Result<Bytes>,
    ) -> Result<Option<Bytes>, ObjectError> {
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    /// Creates an object where there is none of that name.
    ///
    /// # Errors
    /// The store refuses; it may have been created all the same.
    pub async fn create(&self, place: &Path, bytes: Bytes) -> Result<Created, ObjectError> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(place, bytes.into(), options).await {
            Ok(_) => Ok(Created::Now),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::There),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn remove(&self, place: &Path) -> Result<(), ObjectError> {
        match self.store.delete(place).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    /// The names of the directories in a directory, ascending.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn directories(&self, place: &Path) -> Result<Vec<String>, ObjectError> {
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

    /// The objects right in a directory, with their bytes: those whose names come after `after`, where
    /// that is given; ascending.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn files(
        &self,
        place: &Path,
        after: Option<&Path>,
    ) -> Result<Vec<(String, u64)>, ObjectError> {
        let listed = match after {
            Some(after) => self.store.list_with_offset(Some(place), after),
            None => self.store.list(Some(place)),
        };
        let listed: Vec<_> = match listed.try_collect().await {
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
