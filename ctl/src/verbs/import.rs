//! `import`: the keys of a cluster that runs, and every change behind them until both clusters are equal.
//!
//! ```text
//! copy     every key at one revision of the source, in pages         ──► target
//! follow   a watch from the next revision on, many changes a request ──► target
//! equal    the source's revision, asked linearizably, has been reached
//! compare  both, read once more, key by key
//! ```

mod apply;
mod compare;
mod follow;
mod leases;
mod side;

use engram_proto::etcdserverpb as pb;
use serde_json::json;

use crate::cli::{Global, Import};
use crate::failure::Failure;
use crate::output;

use apply::Target;
use follow::Watch;
use side::Side;

/// `import`.
pub async fn import(global: &Global, import: &Import) -> Result<(), Failure> {
    let source = side::flags_of(global, import);
    let from = Side::reach(&source, &import.prefix, import.wait).await?;
    let to = Side::reach(global, &import.prefix, import.wait).await?;
    if from.is_same(&to).await? {
        return Err(Failure::arguments(
            "--from and --endpoints are one cluster: nothing to import",
        ));
    }
    make_room(&to, import.replace).await?;
    let begins = from.revision().await?;
    let mut target = Target::new(&from, &to);
    let copied = copy(&from, &mut target, begins).await?;
    eprintln!("copied {copied} keys of revision {begins}");
    let mut watch = Watch::open(&from, begins + 1).await?;
    let equal = follow::until_equal(&from, &mut watch, &mut target, import).await?;
    let target_revision = to.revision().await?;
    let keys = compare::both((&from, equal), (&to, target_revision)).await?;
    let value = json!({
        "equal": true, "sourceRevision": equal, "targetRevision": target_revision, "keys": keys,
    });
    output::result(global, &value)?;
    let line = format!(
        "cut over: revision {equal} of the source is revision {target_revision} of the target, {keys} keys each\n"
    );
    output::answer(global, || line.into(), || value.clone())
}

/// The target has none of these keys, or they go.
async fn make_room(to: &Side, replace: bool) -> Result<(), Failure> {
    let count = to.count().await?;
    if count > 0 && !replace {
        return Err(Failure::new(format!(
            "the target has {count} keys there already: import into an empty cluster, or --replace them"
        )));
    }
    if count > 0 {
        to.clear().await?;
    }
    Ok(())
}

/// Copies every key as it is at `revision`; how many there are.
async fn copy(from: &Side, target: &mut Target<'_>, revision: i64) -> Result<usize, Failure> {
    let mut pages = from.pages(revision);
    let mut count = 0;
    while let Some(page) = pages.next().await? {
        count += page.len();
        for kv in page {
            target.put(kv).await?;
        }
    }
    target.flush().await?;
    Ok(count)
}

/// A request to put a key as another cluster has it.
fn put_request(kv: &engram_proto::mvccpb::KeyValue, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest {
        key: kv.key.clone(),
        value: kv.value.clone(),
        lease,
        ..pb::PutRequest::default()
    };
    pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put)),
    }
}
