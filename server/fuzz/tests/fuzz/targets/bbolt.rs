//! A bbolt file as an import reads it: a sound one with damaged bytes, whose meta pages are made to fit again.

use std::sync::OnceLock;

use engram_snapshot::bbolt::{self, BucketSource, MemoryBucket};
use engram_snapshot::etcd_schema as schema;
use engram_snapshot::file::{DigestCheck, SnapshotFile, auth_tables};
use engram_types::{KeyValue, LeaseId, MemberId, Revision, RevisionPair};

use super::{Target, damage_at};
use crate::input::Input;
use crate::scratch;

pub const TARGET: Target = Target {
    name: "bbolt",
    run,
    seeds,
    cases: 6_000,
};

const PAGE_BYTES: usize = 4096;
/// Where a meta page has its fields, and its checksum behind them.
const META: std::ops::Range<usize> = 16..72;

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let fits = input.byte() % 4 != 3;
    let mut file = sound().clone();
    input.damage(&mut file);
    if fits {
        fit_meta_pages(&mut file);
    }
    let path = scratch::file("snapshot.db", &file);
    let Ok(snapshot) = SnapshotFile::open(&path, DigestCheck::Skipped) else {
        return;
    };
    let mut last = RevisionPair::default();
    let read = snapshot.records(&mut |record| {
        assert!(record.pair > last, "records do not ascend");
        last = record.pair;
        Ok(())
    });
    if let Ok(read) = read {
        assert!(read.last >= last.main);
    }
    if let Ok(tables) = snapshot.tables() {
        drop(auth_tables(&tables.auth));
    }
    if let Ok(status) = snapshot.status() {
        assert!(
            status.total_bytes <= file.len() as u64,
            "it is longer than its file"
        );
    }
}

fn fit_meta_pages(file: &mut [u8]) {
    for page in file
        .chunks_mut(PAGE_BYTES)
        .take(2)
        .filter(|page| page.len() >= META.end + 8)
    {
        let sum = page[META]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        page[META.end..META.end + 8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A file with rows in each of etcd's buckets; its keys take a branch page and leaves.
fn sound() -> &'static Vec<u8> {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let mut buckets = schema::BUCKETS.map(bucket);
        let mut sources: Vec<&mut dyn BucketSource> = Vec::new();
        sources.extend(
            buckets
                .iter_mut()
                .map(|bucket| bucket as &mut dyn BucketSource),
        );
        let layout = bbolt::plan(&mut sources).expect("they can be held");
        let mut file = Vec::new();
        bbolt::write(&layout, &mut sources, &mut file).expect("memory can be written");
        file
    })
}

fn bucket(name: &[u8]) -> MemoryBucket {
    let mut bucket = MemoryBucket::new(name);
    match name {
        schema::KEY => (2..22).for_each(|revision| put_record(&mut bucket, revision)),
        schema::LEASE => {
            let id = LeaseId(7);
            bucket.put(schema::lease_key(id), schema::lease_value(id, 60, 30));
        }
        schema::MEMBERS => bucket.put("8e9e05c52164694d", r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}"#),
        schema::MEMBERS_REMOVED => bucket.put("9", schema::MEMBER_REMOVED_VALUE),
        schema::ALARM => bucket.put(schema::alarm_key(MemberId(7), 1), ""),
        schema::CLUSTER => bucket.put(schema::CLUSTER_VERSION_KEY, "3.7.0"),
        schema::AUTH => {
            bucket.put(schema::AUTH_ENABLED_KEY, schema::auth_enabled_value(true));
            bucket.put(schema::AUTH_REVISION_KEY, schema::u64_value(4));
        }
        schema::AUTH_USERS => {
            let user = schema::UserRecord {
                name: b"root",
                password_hash: b"hash",
                roles: &["root"],
                has_no_password: false,
            };
            bucket.put("root", user.value());
        }
        schema::AUTH_ROLES => bucket.put("root", schema::role_value(b"root", &[])),
        _ => {
            bucket.put("consistent_index", schema::u64_value(9));
            bucket.put("term", schema::u64_value(2));
            bucket.put("storageVersion", schema::STORAGE_VERSION);
            let revision = schema::revision_key(RevisionPair::new(3, 0));
            bucket.put("scheduledCompactRev", revision);
            bucket.put("finishedCompactRev", revision);
        }
    }
    bucket
}

fn put_record(bucket: &mut MemoryBucket, revision: i64) {
    let pair = RevisionPair::new(revision, 0);
    let kv = KeyValue {
        key: format!("key-{revision}").into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: 1,
        value: vec![b'v'; 200].into(),
        lease: LeaseId::NONE,
    };
    bucket.put(schema::revision_key(pair), kv.encode());
}

fn seeds() -> Vec<Vec<u8>> {
    let bytes = sound();
    let pages = bytes.len() / PAGE_BYTES;
    let root = usize::from(bytes[32]);
    let mut seeds = vec![vec![0]];
    // Every page's kind, the number of its elements, what its first element says; the root's place.
    for page in (2..pages).map(|page| page * PAGE_BYTES) {
        seeds.push(damage_at(page + 8, &[0, 1, 1]));
        seeds.push(damage_at(page + 10, &[0, 1, 9]));
        seeds.push(damage_at(page + 16, &[0, 4, 0xff, 0, 0, 0]));
    }
    seeds.push(damage_at(META.start + 16, &[0, 1, (root - 1) as u8]));
    // Pages of 512 bytes.
    seeds.push(damage_at(META.start + 8, &[0, 2, 0, 2]));
    seeds
}
