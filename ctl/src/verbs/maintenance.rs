//! `compaction`, `defrag`, `alarm`, `move-leader`.

use std::time::Instant;

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use serde_json::{Value, json};

use super::endpoint::endpoints;
use super::{kv, member_id};
use crate::cli::{Alarm, ClusterScope, Compaction, Format, Global};
use crate::connect::{any, one, within};
use crate::failure::Failure;
use crate::json::{header, without_zeros};
use crate::output;

/// `compaction`.
pub async fn compact(global: &Global, compaction: Compaction) -> Result<(), Failure> {
    let revision = compaction.revision;
    let request = pb::CompactionRequest {
        revision,
        physical: compaction.physical,
    };
    let mut client = kv::client(any(global).await?.channel);
    let answer = match compaction.physical {
        // It takes as long as it takes.
        true => client.compact(request).await?,
        false => within(global, client.compact(request)).await?,
    };
    let value = || json!({ "header": header(&answer.get_ref().header) });
    match global.write_out {
        Format::Json => output::text(&format!("{}\n", value()))?,
        _ => output::text(&format!("compacted revision {revision}\n"))?,
    }
    output::result(global, &json!({ "compactRevision": revision }))
}

/// `defrag`: every endpoint, one after the other. It takes as long as it takes.
pub async fn defragment(global: &Global, scope: &ClusterScope) -> Result<(), Failure> {
    let mut failures = 0;
    for endpoint in endpoints(global, scope).await? {
        let started = Instant::now();
        match defragment_one(global, &endpoint).await {
            Ok(()) => output::text(&format!(
                "Finished defragmenting etcd member[{endpoint}]. took {:?}\n",
                started.elapsed()
            ))?,
            Err(failure) => {
                failures += 1;
                eprintln!("Failed to defragment etcd member[{endpoint}]. ({failure})");
            }
        }
    }
    output::result(global, &json!({ "failures": failures }))?;
    match failures {
        0 => Ok(()),
        _ => Err(Failure::new(format!(
            "{failures} members were not defragmented"
        ))),
    }
}

async fn defragment_one(global: &Global, endpoint: &str) -> Result<(), Failure> {
    let channel = one(global, endpoint).await?.channel;
    MaintenanceClient::new(channel)
        .defragment(pb::DefragmentRequest {})
        .await?;
    Ok(())
}

/// `alarm`.
pub async fn alarm(global: &Global, command: Alarm) -> Result<(), Failure> {
    use pb::alarm_request::AlarmAction;
    let mut client = MaintenanceClient::new(any(global).await?.channel);
    let get = pb::AlarmRequest {
        action: AlarmAction::Get.into(),
        member_id: 0,
        alarm: pb::AlarmType::None.into(),
    };
    let raised = within(global, client.alarm(get)).await?.into_inner();
    if matches!(command, Alarm::List) {
        return show(global, &raised);
    }
    let mut disarmed = pb::AlarmResponse {
        header: raised.header,
        alarms: Vec::new(),
    };
    for alarm in raised.alarms {
        let request = pb::AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let answer = within(global, client.alarm(request)).await?.into_inner();
        disarmed.alarms.extend(answer.alarms);
    }
    show(global, &disarmed)
}

fn show(global: &Global, answer: &pb::AlarmResponse) -> Result<(), Failure> {
    let text = || {
        let line = |alarm: &pb::AlarmMember| {
            let name = alarm.alarm().as_str_name().to_owned();
            format!("memberID:{}  alarm:{name}\n", alarm.member_id)
        };
        answer.alarms.iter().map(line).collect::<String>().into()
    };
    let value = || {
        let alarm = |alarm: &pb::AlarmMember| {
            without_zeros(json!({ "memberID": alarm.member_id, "alarm": alarm.alarm }))
        };
        let alarms: Vec<Value> = answer.alarms.iter().map(alarm).collect();
        without_zeros(json!({ "header": header(&answer.header), "alarms": alarms }))
    };
    output::answer(global, text, value)
}

/// `move-leader`: asks the leader, which must be one of the endpoints.
pub async fn move_leader(global: &Global, target: &str) -> Result<(), Failure> {
    let target_id = member_id(target)?;
    for endpoint in &global.endpoints {
        let Ok(member) = one(global, endpoint).await else {
            continue;
        };
        let mut client = MaintenanceClient::new(member.channel);
        let status = within(global, client.status(pb::StatusRequest {})).await?;
        let status = status.into_inner();
        let own = status.header.as_ref().map_or(0, |header| header.member_id);
        if status.leader != own {
            continue;
        }
        let request = pb::MoveLeaderRequest { target_id };
        within(global, client.move_leader(request)).await?;
        let line = format!("Leadership transferred from {own:x} to {target_id:x}\n");
        output::text(&line)?;
        return output::result(global, &json!({ "from": format!("{own:x}"), "to": target }));
    }
    Err(Failure::arguments(format!(
        "no leader endpoint given at {:?}",
        global.endpoints
    )))
}
