//! A worker's Node object is deleted, as by who gives a machine back: the volume there is out of reach, and after
//! `nodeLostAfter` the member is replaced on a node that remains. Then the machine registers again.

use super::out_of_use::OutOfUse;
use super::worker_node_stopped::a_worker_goes;
use crate::lab::Lab;

/// Tells the story.
pub fn tell(lab: &Lab) {
    a_worker_goes(
        lab,
        "node-deleted",
        "a node is deleted, its member is replaced",
        OutOfUse::deleted,
        "the machine registers again",
    );
}
