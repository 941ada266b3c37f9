//! Answers that the client asks for and does not read.

use std::time::Duration;

use engram_e2e::raw::{Call, Connection, framed};
use engram_proto::etcdserverpb::{
    RangeRequest, SnapshotRequest, WatchCreateRequest, WatchRequest, watch_request,
};
use tonic_prost::prost::bytes::Bytes;

use super::{Scene, everything};
use crate::case;
use crate::ci_or_full;

/// How long the client does nothing with its answers.
const HELD: Duration = Duration::from_secs(4);
const HELD_LONG: Duration = Duration::from_secs(20);

#[test]
fn ranges_that_are_not_read() {
    let request = framed(&everything());
    unread(
        "64 ranges that are not read",
        "/etcdserverpb.KV/Range",
        request,
        64,
        true,
    );
}

#[test]
fn snapshots_that_are_not_read() {
    let request = framed(&SnapshotRequest {});
    let path = "/etcdserverpb.Maintenance/Snapshot";
    unread("600 snapshots that are not read", path, request, 600, true);
}

#[test]
fn range_streams_that_are_not_read() {
    let request: RangeRequest = everything();
    let path = "/etcdserverpb.KV/RangeStream";
    unread(
        "200 range streams that are not read",
        path,
        framed(&request),
        200,
        true,
    );
}

#[test]
fn watches_of_history_that_are_not_read() {
    let create = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(
            WatchCreateRequest {
                key: vec![0].into(),
                range_end: vec![0].into(),
                start_revision: 1,
                ..WatchCreateRequest::default()
            },
        )),
    };
    let path = "/etcdserverpb.Watch/Watch";
    unread(
        "1000 watches of history that are not read",
        path,
        framed(&create),
        1_000,
        false,
    );
}

/// `count` calls, a few on a connection, whose answers stay where they are.
fn unread(name: &'static str, path: &'static str, body: Bytes, count: usize, ends: bool) {
    const ON_A_CONNECTION: usize = 4;
    let case = case::begin(name);
    let scene = Scene::begin();
    let address = scene.server.address();
    let beside = scene.beside(async {
        let mut held: Vec<(Connection, Vec<Call>)> = Vec::new();
        let mut refused = 0;
        for begin in (0..count).step_by(ON_A_CONNECTION) {
            let Ok(connection) = Connection::open(address, false).await else {
                refused += 1;
                continue;
            };
            let mut calls = Vec::new();
            for _ in begin..count.min(begin + ON_A_CONNECTION) {
                match connection.begin(path, &[], body.clone(), ends).await {
                    Ok(call) => calls.push(call),
                    Err(_) => refused += 1,
                }
            }
            held.push((connection, calls));
        }
        tokio::time::sleep(ci_or_full(HELD, HELD_LONG)).await;
        refused
    });
    let (busy, took) = (beside.busy, beside.took);
    let refused = scene.judge(&case, beside);
    case.saw(format!("{refused} of {count} calls could not be begun"));
    // Nobody reads: there is nothing to do, once what is held ready is made.
    assert!(
        busy < took.mul_f64(0.8),
        "{busy:?} of processor in {took:?}"
    );
}
