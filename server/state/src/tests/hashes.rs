//! HashKV where etcd's rule is not what one expects. The numbers are what etcd 3.7.3 answered to the same
//! requests.

use crate::fixture::*;
use crate::types::Revision;
use crate::types::request::TxnOp;

/// `a` and `b` at revisions 2 and 3, compacted there.
fn two_keys_compacted() -> Machine {
    let mut machine = Machine::new(1 << 20);
    machine.put("a", "v").unwrap();
    machine.put("b", "v").unwrap();
    machine.compact(3).unwrap();
    machine.reclaim(10);
    machine
}

/// Everything is deleted and `a` put again, in one revision.
fn delete_all_and_put(machine: &mut Machine) {
    let everything = TxnOp::DeleteRange(delete("\0", "\0"));
    machine
        .txn(vec![everything, TxnOp::Put(put("a", "w"))])
        .unwrap();
}

/// Compacts, and what the revision hashes to before.
fn compacted_with_hash(machine: &mut Machine, revision: i64) -> u32 {
    let begun = machine.state.mvcc.compaction_hash(Revision(revision));
    let hash = machine.finish_hash(begun.unwrap());
    assert_eq!(hash.hash_revision, Revision(revision));
    machine.compact(revision).unwrap();
    machine.reclaim(10);
    hash.hash
}

#[test]
fn a_key_deleted_and_put_again_in_the_revision_hashed_keeps_nothing() {
    let mut machine = two_keys_compacted();
    delete_all_and_put(&mut machine);
    assert_eq!(machine.hash(0).unwrap().hash, 1_966_560_386);
    machine.put("c", "v").unwrap();
    assert_eq!(machine.hash(0).unwrap().hash, 767_800_052);
    assert_eq!(machine.hash(4).unwrap().hash, 1_966_560_386);
    machine.state = machine.reloaded();
    assert_eq!(machine.hash(4).unwrap().hash, 1_966_560_386);
    assert_eq!(compacted_with_hash(&mut machine, 5), 767_800_052);
    assert_eq!(machine.hash(0).unwrap().hash, 2_405_492_332);
}

#[test]
fn a_compaction_at_such_a_revision_keeps_the_tombstone() {
    let mut machine = two_keys_compacted();
    delete_all_and_put(&mut machine);
    assert_eq!(compacted_with_hash(&mut machine, 4), 408_122_888);
    // etcd has lost what was put: it would count nothing but the bucket's name here.
    assert_eq!(machine.list(&all()), "a=w");
}

#[test]
fn a_compaction_at_a_tombstone_hashes_nothing_that_was_before_it() {
    let mut machine = Machine::new(1 << 20);
    machine.put("a", "v").unwrap();
    machine.compact(2).unwrap();
    machine.delete("a", "").unwrap();
    assert_eq!(machine.hash(0).unwrap().hash, 40_785_394);
    assert_eq!(compacted_with_hash(&mut machine, 3), 3_681_333_679);
    assert_eq!(machine.hash(0).unwrap().hash, 1_084_519_789);
}

#[test]
fn a_compaction_at_one_of_several_tombstones_does_the_same() {
    let mut machine = Machine::new(1 << 20);
    machine.put("a", "v").unwrap();
    machine.compact(2).unwrap();
    machine.put("b", "v").unwrap();
    machine.delete("a", "").unwrap();
    machine.delete("b", "").unwrap();
    assert_eq!(machine.hash(0).unwrap().hash, 1_308_244_377);
    assert_eq!(compacted_with_hash(&mut machine, 5), 1_698_425_624);
    assert_eq!(machine.hash(0).unwrap().hash, 1_084_519_789);
}
