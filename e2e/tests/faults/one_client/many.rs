//! Many of something small.

use std::time::Duration;

use engram_e2e::client::Client;
use engram_e2e::raw::{Connection, framed};
use engram_proto::etcdserverpb::{
    AlarmRequest, AlarmType, WatchCreateRequest, WatchRequest, alarm_request::AlarmAction,
    watch_request,
};

use super::Scene;
use crate::case;
use crate::ci_or_full;

const CONNECTIONS: usize = 5;
const OPEN_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn alarms_for_members_that_do_not_exist() {
    let case = case::begin("2000 alarms for members that do not exist");
    let scene = Scene::with(1_000, 2_048 * super::MIB);
    let address = scene.server.address();
    let taken = scene.runtime.block_on(async move {
        let mut client = Client::connect(address).await;
        let mut taken = 0;
        for number in 0..2_000 {
            let alarm = if number % 2 == 0 {
                AlarmType::Nospace
            } else {
                AlarmType::Corrupt
            };
            let request = AlarmRequest {
                action: AlarmAction::Activate.into(),
                member_id: 0xdead_0000 + number,
                alarm: alarm.into(),
            };
            taken += usize::from(client.maintenance.alarm(request).await.is_ok());
        }
        taken
    });
    let put = scene.server.try_etcdctl(&["put", "a", "b"]);
    let listed = scene.server.etcdctl(&["alarm", "list"]).lines().count();
    case.saw(format!(
        "{taken} taken, {listed} listed; a put: {}",
        put.text().trim()
    ));
    assert!(put.status.success(), "{}", put.text());
    assert_eq!(listed, 0, "alarms of nobody stand");
}

#[test]
fn streams_without_number_on_five_connections() {
    let count = ci_or_full(20_000, 100_000);
    let case = case::begin("100,000 streams on 5 connections");
    let scene = Scene::with(1_000, 1_024 * super::MIB);
    let address = scene.server.address();
    let create = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(
            WatchCreateRequest {
                key: b"nothing".to_vec().into(),
                ..WatchCreateRequest::default()
            },
        )),
    };
    let body = framed(&create);
    let beside = scene.beside(async {
        let openers = (0..CONNECTIONS).map(|_| {
            let body = body.clone();
            tokio::spawn(async move {
                let connection = Connection::open(address, false)
                    .await
                    .expect("a connection");
                let mut held = Vec::new();
                let _ = tokio::time::timeout(OPEN_LIMIT, async {
                    for _ in 0..count / CONNECTIONS {
                        let path = "/etcdserverpb.Watch/Watch";
                        let Ok(call) = connection.begin(path, &[], body.clone(), false).await
                        else {
                            break;
                        };
                        held.push(call);
                    }
                })
                .await;
                (connection, held)
            })
        });
        let openers: Vec<_> = openers.collect();
        let mut all = Vec::new();
        for opener in openers {
            all.push(opener.await.expect("no panic"));
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let begun: usize = all.iter().map(|(_, held)| held.len()).sum();
        begun
    });
    let peak = beside.peak_memory;
    let before = scene.before.memory;
    let begun = scene.judge(&case, beside);
    case.saw(format!("{begun} of {count} streams were begun"));
    // Bounded: not so much a stream for any number of them.
    assert!(peak < before + 96 * super::MIB, "{} MiB", peak / super::MIB);
}
