//! A member whose data differs (the test raises the alarm that the members' comparison raises): clients keep the
//! other two, it is replaced under load, its volume is kept though the policy deletes volumes, and it is said.

use std::time::Duration;

use engram_e2e::client;
use engram_e2e::kind::traffic::Traffic;
use engram_e2e::kind::{Declared, wait_for};
use engram_proto::etcdserverpb as pb;
use serde_json::json;

use crate::ci::audit;
use crate::lab::{Lab, READY_LIMIT};
use crate::steps::{step, step_under};

const NAMESPACE: &str = "corrupt";
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Tells the story.
pub fn tell(lab: &Lab) {
    let demo = lab.cluster(
        NAMESPACE,
        3,
        &json!({ "storage": { "size": "1Gi", "reclaimPolicy": "Delete" } }),
    );
    let ports = demo.node_ports();
    let traffic = Traffic::start(&demo.access(), &ports);
    let bad = demo.follower();
    let before = demo.uids("persistentvolumeclaims");
    step_under(&traffic, "its data differs: it is replaced", || {
        client::runtime().block_on(accuse(&demo, &bad));
        let mut fewest = 3;
        wait_for("another member in its place", READY_LIMIT, || {
            fewest = fewest.min(served_by(&demo)?);
            let gone = !demo.members().contains(&bad);
            let ready = demo.object()?["status"]["readyMembers"] == 3;
            (gone && ready).then_some(())
        });
        assert!(fewest >= 2, "clients had {fewest} members");
        demo.ready(3, READY_LIMIT);
    });
    step("its volume is kept, and it is said why", || {
        let after = demo.uids("persistentvolumeclaims");
        assert!(after.is_superset(&before), "{before:?} {after:?}");
        assert_eq!(after.len(), 4, "{after:?}");
        let object = demo.object().expect("the cluster is there");
        let alarms = object["status"]["alarms"].as_array().map_or(0, Vec::len);
        assert_eq!(alarms, 0, "with the member goes its alarm: {object:#}");
        let events = demo.kind().must(&["-n", NAMESPACE, "get", "events"]);
        let said = |line: &str| line.contains(&bad) && line.contains("Corrupt");
        assert!(events.lines().any(said), "{events}");
    });
    step("every acknowledged write is there", || audit(traffic));
    lab.clear(NAMESPACE);
}

/// Raises the alarm, as the members' comparison does.
async fn accuse(demo: &Declared, member: &str) {
    let ports = demo.node_ports();
    let mut client = demo.access().reach(ports[0], CALL_LIMIT).await;
    let listed = client.cluster.member_list(pb::MemberListRequest::default());
    let listed = listed.await.expect("a list").into_inner().members;
    let named = listed.iter().find(|one| one.name == member);
    let request = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate.into(),
        alarm: pb::AlarmType::Corrupt.into(),
        member_id: named.expect("it is listed").id,
    };
    client.maintenance.alarm(request).await.expect("an alarm");
}

/// How many members the clients' Service leads to.
fn served_by(demo: &Declared) -> Option<usize> {
    let label = format!("kubernetes.io/service-name={}-client", demo.name());
    let slices = demo
        .kind()
        .get(demo.namespace(), &["endpointslices", "-l", &label])?;
    let slices = slices["items"].as_array()?.iter();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|one| one["conditions"]["ready"] == true);
    Some(ready.count())
}
