//! `endpoint`: each endpoint by itself.

use std::time::Instant;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use serde_json::{Value, json};

use super::kv;
use crate::cli::{ClusterScope, Endpoint, Global};
use crate::connect::{any, one, within};
use crate::failure::Failure;
use crate::json::{header, without_zeros};
use crate::output::{self, humanize};

const STATUS: [&str; 16] = [
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

/// `endpoint`.
pub async fn endpoint(global: &Global, command: Endpoint) -> Result<(), Failure> {
    match command {
        Endpoint::Health(scope) => health(global, &endpoints(global, &scope).await?).await,
        Endpoint::Status(scope) => status(global, &endpoints(global, &scope).await?).await,
        Endpoint::Hashkv { scope, rev } => {
            hash_kv(global, &endpoints(global, &scope).await?, rev).await
        }
    }
}

/// The endpoints given, or all that members advertise.
pub async fn endpoints(global: &Global, scope: &ClusterScope) -> Result<Vec<String>, Failure> {
    if !scope.cluster {
        return Ok(global.endpoints.clone());
    }
    let mut client = ClusterClient::new(any(global).await?.channel);
    let request = pb::MemberListRequest {
        linearizable: false,
    };
    let members = within(global, client.member_list(request))
        .await?
        .into_inner();
    Ok(members
        .members
        .into_iter()
        .flat_map(|member| member.client_ur_ls)
        .collect())
}

/// How an endpoint is: how long its answer took, or why it is not well.
async fn check(global: &Global, endpoint: &str) -> (String, Option<String>) {
    let started = Instant::now();
    let asked = async {
        let channel = one(global, endpoint).await?.channel;
        let mut client = kv::client(channel.clone());
        let request = pb::RangeRequest {
            key: b"health".to_vec().into(),
            ..pb::RangeRequest::default()
        };
        let answer = within(global, client.range(request)).await;
        let took = format!("{:?}", started.elapsed());
        match answer {
            // Without permission to read it has come to an agreement all the same.
            Err(failure) if failure.to_string() != "etcdserver: permission denied" => Err(failure),
            _ => Ok((took, alarms(global, channel).await)),
        }
    };
    let asked: Result<_, Failure> = asked.await;
    asked.unwrap_or_else(|failure| {
        let took = format!("{:?}", started.elapsed());
        (took, Some(failure.to_string()))
    })
}

/// The alarms that are raised, in etcdctl's words.
async fn alarms(global: &Global, channel: Channel) -> Option<String> {
    let get = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Get.into(),
        ..pb::AlarmRequest::default()
    };
    let Ok(answer) = within(global, MaintenanceClient::new(channel).alarm(get)).await else {
        return Some("Unable to fetch the alarm list".to_owned());
    };
    let raised = answer.into_inner().alarms;
    let name = |alarm: &pb::AlarmMember| match pb::AlarmType::try_from(alarm.alarm) {
        Ok(pb::AlarmType::Nospace) => "NOSPACE ",
        Ok(pb::AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    };
    let names: String = raised.iter().map(name).collect();
    (!names.is_empty()).then(|| format!("Active Alarm(s): {names}"))
}

async fn health(global: &Global, endpoints: &[String]) -> Result<(), Failure> {
    let checks = endpoints
        .iter()
        .map(async |endpoint| (endpoint, check(global, endpoint).await));
    let checked = futures_util::future::join_all(checks).await;
    let all_well = checked.iter().all(|(_, (_, error))| error.is_none());
    match global.write_out {
        crate::cli::Format::Simple => {
            for (endpoint, (took, error)) in &checked {
                match error {
                    None => output::text(&format!(
                        "{endpoint} is healthy: successfully committed proposal: took = {took}\n"
                    ))?,
                    Some(error) => {
                        eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
                    }
                }
            }
        }
        _ => {
            let row = |(endpoint, (took, error)): &(&String, (String, Option<String>))| {
                let error = error.clone();
                vec![
                    (*endpoint).clone(),
                    error.is_none().to_string(),
                    took.clone(),
                    error.unwrap_or_default(),
                ]
            };
            let rows: Vec<Vec<String>> = checked.iter().map(row).collect();
            let value = || {
                let one = |row: &Vec<String>| {
                    let mut value =
                        json!({ "endpoint": row[0], "health": row[1] == "true", "took": row[2] });
                    if !row[3].is_empty() {
                        value["error"] = json!(row[3]);
                    }
                    value
                };
                rows.iter().map(one).collect()
            };
            output::rows(
                global,
                &["endpoint", "health", "took", "error"],
                &rows,
                value,
            )?;
        }
    }
    match all_well {
        true => Ok(()),
        false => Err(Failure::new("unhealthy cluster")),
    }
}

async fn status(global: &Global, endpoints: &[String]) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut failed = 0;
    for endpoint in endpoints {
        let asked = async {
            let mut client = MaintenanceClient::new(one(global, endpoint).await?.channel);
            within(global, client.status(pb::StatusRequest {})).await
        };
        match asked.await {
            Ok(answer) => answers.push((endpoint.clone(), answer.into_inner())),
            Err(failure) => {
                failed += 1;
                eprintln!("Failed to get the status of endpoint {endpoint} ({failure})");
            }
        }
    }
    let rows: Vec<Vec<String>> = answers
        .iter()
        .map(|(name, answer)| status_row(name, answer))
        .collect();
    output::rows(global, &STATUS, &rows, || {
        answers.iter().map(status_value).collect()
    })?;
    all_answered(failed)
}

fn status_row(endpoint: &str, status: &pb::StatusResponse) -> Vec<String> {
    let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let unused = 100
        - (status.db_size_in_use * 100)
            .checked_div(status.db_size)
            .unwrap_or(100);
    let own = status.header.as_ref().map_or(0, |header| header.member_id);
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.to_owned(),
        format!("{own:x}"),
        status.version.clone(),
        status.storage_version.clone(),
        humanize(size(status.db_size)),
        humanize(size(status.db_size_in_use)),
        format!("{unused}%"),
        humanize(size(status.db_size_quota)),
        (status.leader == own).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

fn status_value((endpoint, status): &(String, pb::StatusResponse)) -> Value {
    let value = without_zeros(json!({
        "header": header(&status.header),
        "version": status.version,
        "dbSize": status.db_size,
        "leader": status.leader,
        "raftIndex": status.raft_index,
        "raftTerm": status.raft_term,
        "raftAppliedIndex": status.raft_applied_index,
        "errors": status.errors,
        "dbSizeInUse": status.db_size_in_use,
        "isLearner": status.is_learner,
        "storageVersion": status.storage_version,
        "dbSizeQuota": status.db_size_quota,
    }));
    json!({ "Endpoint": endpoint, "Status": value })
}

async fn hash_kv(global: &Global, endpoints: &[String], revision: i64) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut failed = 0;
    for endpoint in endpoints {
        let asked = async {
            let mut client = MaintenanceClient::new(one(global, endpoint).await?.channel);
            within(global, client.hash_kv(pb::HashKvRequest { revision })).await
        };
        match asked.await {
            Ok(answer) => answers.push((endpoint.clone(), answer.into_inner())),
            Err(failure) => {
                failed += 1;
                eprintln!("Failed to get the hash of endpoint {endpoint} ({failure})");
            }
        }
    }
    let row = |(endpoint, answer): &(String, pb::HashKvResponse)| {
        vec![
            endpoint.clone(),
            answer.hash.to_string(),
            answer.hash_revision.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = answers.iter().map(row).collect();
    let value = |(endpoint, answer): &(String, pb::HashKvResponse)| {
        json!({ "Endpoint": endpoint, "HashKV": without_zeros(json!({
            "header": header(&answer.header), "hash": answer.hash,
            "compact_revision": answer.compact_revision, "hash_revision": answer.hash_revision,
        }))})
    };
    let header = ["endpoint", "hash", "hash_revision"];
    output::rows(global, &header, &rows, || {
        answers.iter().map(value).collect()
    })?;
    all_answered(failed)
}

/// What a command that asked several endpoints ends with.
fn all_answered(failed: usize) -> Result<(), Failure> {
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{failed} endpoints did not answer"))),
    }
}
