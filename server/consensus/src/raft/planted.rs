//! Faults that are planted in what is applied, and in who counts for a quorum, for the simulator to find
//! ([`crate::mutants`]).

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::LogId;
use super::sane::Asked;
use crate::mutants::is_planted;
use crate::state::Change;
use crate::storage::Applied;
use crate::types::request::Op;

/// Of the engine the revision after the last one that goes is taken too.
pub(super) fn more_of(changes: &mut Vec<Change>) {
    let last = changes.iter().rev().find_map(|change| match change {
        Change::DeleteRevision(pair) => Some(*pair),
        _ => None,
    });
    changes.extend(last.map(|mut pair| {
        pair.main = pair.main.next();
        Change::DeleteRevision(pair)
    }));
}

/// Other operations than those that were decided.
pub(super) fn in_place_of(ops: &[Op]) -> Option<Vec<Op>> {
    let change: fn(&mut Op) = match () {
        () if is_planted("compact-too-much") => |op| {
            if let Op::Compact(compact) = op {
                compact.revision += 1;
            }
        },
        () if is_planted("swap-unchecked") => |op| {
            if let Op::Txn(txn) = op {
                txn.compare.clear();
            }
        },
        () => return None,
    };
    let mut ops = ops.to_vec();
    ops.iter_mut().for_each(change);
    Some(ops)
}

/// The mark of the entry after.
pub(super) fn early(mark: &Applied) -> Applied {
    let mut mark = mark.clone();
    if let Some(position) = &mut mark.log_position {
        position.index += 1;
    }
    mark
}

/// The mark of the entry before.
pub(super) fn late(mark: &Applied) -> Applied {
    let mut mark = mark.clone();
    if let Some(position) = &mut mark.log_position {
        position.index -= 1;
    }
    mark
}

/// What a member that does not answer is said to have, where it is counted all the same.
pub(super) fn counted(asked: &Mutex<VecDeque<Asked>>) -> Option<Option<LogId>> {
    if !is_planted("quorum-miscounted") {
        return None;
    }
    asked.lock().pop_front().map(|asked| asked.last)
}
