//! Directories, which are there.

use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

use super::Named;

pub(super) fn open(url: &Url) -> Result<Named, String> {
    if url.query().is_some() || !url.host_str().unwrap_or_default().is_empty() {
        return Err("a directory is named as file:///path, without host and options".into());
    }
    let path = url.to_file_path();
    let path = path.map_err(|()| "it is no path".to_owned())?;
    // The volume must be there: a directory made beside a missing mount would hold the backups.
    let store = LocalFileSystem::new_with_prefix(&path);
    let store = store.map_err(|error| format!("the directory must be there: {error}"))?;
    let store = store.with_fsync(true).with_automatic_cleanup(true);
    Ok(Named {
        store: Arc::new(store),
        prefix: Path::default(),
        root: Some(path),
    })
}
