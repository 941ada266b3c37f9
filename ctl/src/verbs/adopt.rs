//! `adopt`: the directory of an etcd that engram went on with. The adoption itself is `engram
//! --data-dir`'s; this tells of it, and ends it.

use engram_server::adopt::{self, AdoptError, Adoption, ETCD_DIR};
use serde_json::json;

use crate::cli::{Adopt, Global};
use crate::failure::Failure;
use crate::output;

/// `adopt`. Works beside a running member: only etcd's files are touched.
pub fn adopt(global: &Global, adopt: &Adopt) -> Result<(), Failure> {
    let dir = &adopt.data_dir;
    let shown = dir.display();
    if adopt.finish {
        let removed = adopt::finish(dir)?;
        let line = match removed {
            true => format!("removed etcd's files from {shown}\n"),
            false => format!("no files of etcd's are left in {shown}\n"),
        };
        let value = json!({ "dataDir": dir, "removed": removed });
        output::result(global, &value)?;
        return output::answer(global, || line.into(), || value.clone());
    }
    let adoption = Adoption::load(dir).map_err(AdoptError::from)?;
    let Some(adoption) = adoption else {
        return Err(Failure::new(format!(
            "engram adopted no directory of etcd's in {shown}"
        )));
    };
    let is_there = !adoption.finished && dir.join(ETCD_DIR).is_dir();
    let applied = adoption.applied;
    let line = match is_there {
        true => format!("{shown} was adopted at entry {applied}; etcd's files are still there\n"),
        false => format!("{shown} was adopted at entry {applied}; etcd's files are gone\n"),
    };
    let value = json!({ "dataDir": dir, "consistentIndex": applied, "finished": !is_there });
    output::result(global, &value)?;
    output::answer(global, || line.into(), || value.clone())
}
