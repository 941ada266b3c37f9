//! `compaction`, `defrag`, `alarm`, `move-leader`.

use std::path::Path;
use std::time::{Duration, Instant};

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use serde_json::json;

use super::endpoint::endpoints;
use super::{kv, member_id};
use crate::cli::{Alarm, Compaction, Defrag, Global};
use crate::connect::{self, any, one, one_now, within};
use crate::failure::Failure;
use crate::output::{self, Answer};

/// `compaction`.
pub async fn compact(global: &Global, compaction: Compaction) -> Result<(), Failure> {
    let revision = compaction.revision;
    let request = pb::CompactionRequest {
        revision,
        physical: compaction.physical,
    };
    let mut client = kv::client(global, any(global).await?.channel);
    match compaction.physical {
        // It takes as long as it takes.
        true => client.compact(request).await?,
        false => within(global, client.compact(request)).await?,
    };
    // In every format, as etcdctl.
    output::text(&format!("compacted revision {revision}\n"))?;
    output::result(global, &json!({ "compactRevision": revision }))
}

/// `defrag`: every endpoint, one after the other, or a directory. It takes as long as it takes.
pub async fn defragment(global: &Global, defrag: &Defrag) -> Result<(), Failure> {
    if let Some(dir) = &defrag.data_dir {
        return defragment_dir(dir, defrag.timeout);
    }
    let mut failures = 0;
    for endpoint in endpoints(global, &defrag.scope).await? {
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

fn defragment_dir(dir: &Path, limit: Duration) -> Result<(), Failure> {
    engram_server::node::offline::defragment(dir, limit).map_err(|error| {
        let dir = dir.display();
        Failure::new(format!("Failed to defragment etcd data[{dir}] ({error})"))
    })
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
    // Of several answers none has the header.
    let mut disarmed = pb::AlarmResponse::default();
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
    Answer::new(text)
        .message("AlarmResponse", answer)
        .fields(global, |fields| {
            fields.header(&answer.header);
            for alarm in &answer.alarms {
                fields.id("MemberID", alarm.member_id);
                fields.line("AlarmType", alarm.alarm().as_str_name());
                fields.gap();
            }
        })
        .write(global)
}

/// `move-leader`: asks the leader, which must be one of the endpoints.
pub async fn move_leader(global: &Global, target: &str) -> Result<(), Failure> {
    let target_id = member_id(target)?;
    for endpoint in &connect::endpoints(global).await? {
        let Ok(member) = one_now(global, endpoint).await else {
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
        let answer = within(global, client.move_leader(request)).await?;
        let line = format!("Leadership transferred from {own:x} to {target_id:x}\n");
        Answer::new(|| line.into())
            .message("MoveLeaderResponse", answer.get_ref())
            .write(global)?;
        return output::result(global, &json!({ "from": format!("{own:x}"), "to": target }));
    }
    Err(Failure::arguments(format!(
        "no leader endpoint given at {:?}",
        global.endpoints
    )))
}
