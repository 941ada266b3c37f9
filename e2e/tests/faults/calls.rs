//! Calls of one member, given up after a time of the test's choosing.

use std::time::Duration;

use engram_e2e::client::Client;
use engram_e2e::cluster::Cluster;
use engram_e2e::random::Random;
use engram_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, alarm_request::AlarmAction,
};
use tonic::Status;

/// For a call where nothing is wrong. The machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a key at the member at `place`; returns the revision.
pub fn put(
    cluster: &Cluster,
    place: usize,
    key: &str,
    value: &[u8],
    limit: Duration,
) -> Result<i64, Status> {
    let address = cluster.server(place).address();
    let call = async {
        let mut client = Client::lazy(address);
        client.put(key, value).await
    };
    let limited = async { tokio::time::timeout(limit, call).await };
    let answer = cluster.runtime().block_on(limited);
    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer in {limit:?}"))))
}

/// Waits until the member at `place` takes a write.
///
/// # Panics
/// If it does not within `limit`.
pub fn must_take_a_write(cluster: &Cluster, place: usize, limit: Duration) {
    let what = format!("{} takes a write", cluster.server(place).name());
    cluster.wait_for(limit, &what, || {
        put(cluster, place, "a", b"b", Duration::from_secs(5)).ok()
    });
}

/// A key's value at the member at `place`, as that one has it now (serializable).
pub fn get_local(cluster: &Cluster, place: usize, key: &str) -> Result<Option<Vec<u8>>, Status> {
    get_local_at(cluster, place, key, 0)
}

/// [`get_local`] as of a revision.
pub fn get_local_at(
    cluster: &Cluster,
    place: usize,
    key: &str,
    revision: i64,
) -> Result<Option<Vec<u8>>, Status> {
    let address = cluster.server(place).address();
    let request = engram_proto::etcdserverpb::RangeRequest {
        key: key.as_bytes().to_vec().into(),
        revision,
        serializable: true,
        ..Default::default()
    };
    let answer = cluster.runtime().block_on(async {
        let mut client = Client::lazy(address);
        client.kv.range(request).await
    })?;
    let first = answer.into_inner().kvs.into_iter().next();
    Ok(first.map(|kv| kv.value.to_vec()))
}

/// The alarms that stand.
///
/// # Panics
/// If the member does not tell.
pub fn alarms(cluster: &Cluster, place: usize) -> Vec<AlarmMember> {
    let address = cluster.server(place).address();
    let request = AlarmRequest {
        action: AlarmAction::Get.into(),
        member_id: 0,
        alarm: AlarmType::None.into(),
    };
    let answer = cluster.runtime().block_on(async {
        let mut client = Client::lazy(address);
        client.maintenance.alarm(request).await
    });
    match answer {
        Ok(answer) => answer.into_inner().alarms,
        Err(status) => cluster.fail(&format!("no list of alarms: {status}")),
    }
}

/// A value that no compressor shortens.
pub fn incompressible(bytes: usize) -> Vec<u8> {
    Random::new(12).bytes(bytes)
}

/// A value in hexadecimal digits, of which a good compressor saves half.
pub fn digits(bytes: usize) -> Vec<u8> {
    let random = Random::new(12).bytes(bytes.div_ceil(2));
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.into_bytes()
}
