//! A key with a lease: written before a backup, looked for after the restore.

use engram_proto::etcdserverpb::{LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest};

use crate::client::Client;

/// The lease, and its time to live in seconds.
const LEASE: (i64, i64) = (0x7ea5e, 7_200);
/// The key.
const KEY: &[u8] = b"leased";

/// Grants the lease and writes the key.
///
/// # Panics
/// If the server refuses.
pub async fn write(client: &mut Client) {
    let (id, ttl) = LEASE;
    let grant = LeaseGrantRequest { ttl, id };
    client.lease.lease_grant(grant).await.expect("a lease");
    let leased = PutRequest {
        key: KEY.to_vec().into(),
        value: b"value".to_vec().into(),
        lease: id,
        ..PutRequest::default()
    };
    client.kv.put(leased).await.expect("a put");
}

/// The lease is there with its key and its time to live.
///
/// # Panics
/// If it is not.
pub async fn must_be_there(client: &mut Client) {
    let (id, ttl) = LEASE;
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let answer = client.lease.lease_time_to_live(request).await;
    let lease = answer.expect("a lease").into_inner();
    assert_eq!(lease.granted_ttl, ttl);
    assert_eq!(lease.keys, [KEY]);
}
