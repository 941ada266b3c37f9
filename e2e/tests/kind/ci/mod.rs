//! What `make e2e` runs.

pub mod alert;
pub mod backups;
mod bad_inputs;
pub mod content;
mod healing;
pub mod kubernetes_on_engram;
mod operations;
mod quick_start;
pub mod restore;
pub mod scale;
pub mod smoke;
pub mod writer;

use engram_e2e::kind::traffic::{Audited, Traffic};

use crate::lab::Lab;
use crate::steps::{step, step_under};

/// From the README's first command to a cluster that is lost and restored, with a writer and a
/// reader at work until then.
pub fn operator_on_kind(lab: &Lab) {
    let demo = step("the quick start, as README has it", || {
        quick_start::tell(lab)
    });
    let s3 = step("an S3 server, stores, a schedule", || {
        let s3 = backups::begin(lab.kind());
        bad_inputs::begin(lab.kind());
        s3
    });
    let traffic = Traffic::start(&demo.access(), &demo.node_ports());
    let first = step_under(&traffic, "the schedule's first backup, at once", || {
        backups::immediate(lab.kind())
    });
    scale::tell(&demo, &traffic);
    healing::tell(&demo, &traffic);
    step_under(
        &traffic,
        "compaction, defragmentation, another leader",
        || operations::tell(&demo),
    );
    step_under(&traffic, "an alert fires: a member is down", || {
        alert::tell(&demo);
    });
    step_under(&traffic, "bad inputs are refused, and why is said", || {
        bad_inputs::tell(&demo);
    });
    step_under(&traffic, "the schedule fires, retention prunes", || {
        backups::schedule(&demo, &s3, &first);
    });
    let on_a_volume = step_under(&traffic, "a backup on a volume, verified", || {
        backups::make(&demo, "on-a-volume", backups::ON_A_VOLUME)
    });
    step_under(&traffic, "a backup that goes with its object", || {
        backups::deleted(&demo, &s3);
    });
    step("every acknowledged write is there", || audit(traffic));
    restore::tell(&demo, &s3, &on_a_volume);
}

/// Stops the clients, looks for everything they were promised, and says how they fared.
pub fn audit(traffic: Traffic) {
    let Audited {
        acknowledged,
        failed,
        longest,
    } = traffic.stop();
    println!(
        "          {acknowledged} writes acknowledged, none lost; {failed} calls failed; longest gap: \
         writes {:.2} s, reads {:.2} s",
        longest.write.as_secs_f64(),
        longest.read.as_secs_f64()
    );
}
