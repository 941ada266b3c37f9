//! `endpoint`: each endpoint by itself.

use std::time::Instant;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use engram_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use serde::Serialize;

use super::kv;
use crate::cli::{ClusterScope, Endpoint, Format, Global};
use crate::connect::{self, any, one, within};
use crate::failure::Failure;
use crate::go::json::Message;
use crate::output::{self, Answer, Fields, humanize};

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

const HEALTH: [&str; 4] = ["endpoint", "health", "took", "error"];
const HASH: [&str; 3] = ["endpoint", "hash", "hash_revision"];

/// `endpoint`.
pub async fn endpoint(
    global: &Global,
    scope: &ClusterScope,
    command: Endpoint,
) -> Result<(), Failure> {
    let endpoints = endpoints(global, scope).await?;
    match command {
        Endpoint::Health => health(global, &endpoints).await,
        Endpoint::Status => status(global, &endpoints).await,
        Endpoint::Hashkv { rev } => hash_kv(global, &endpoints, rev).await,
    }
}

/// The endpoints given, or all that members advertise.
pub async fn endpoints(global: &Global, scope: &ClusterScope) -> Result<Vec<String>, Failure> {
    if !scope.cluster {
        return connect::endpoints(global).await;
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
        let mut client = kv::client(global, channel.clone());
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

/// How an endpoint is, as Go's JSON has it.
#[derive(Serialize)]
struct Health<'a> {
    endpoint: &'a str,
    health: bool,
    took: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

async fn health(global: &Global, endpoints: &[String]) -> Result<(), Failure> {
    let checks = endpoints
        .iter()
        .map(async |endpoint| (endpoint, check(global, endpoint).await));
    let checked = futures_util::future::join_all(checks).await;
    let checked: Vec<Health<'_>> = checked
        .iter()
        .map(|(endpoint, (took, error))| Health {
            endpoint,
            health: error.is_none(),
            took,
            error: error.as_deref().unwrap_or_default(),
        })
        .collect();
    if global.write_out == Format::Simple {
        health_lines(&checked)?;
    } else {
        let row = |it: &Health<'_>| {
            let texts = [it.endpoint, &it.health.to_string(), it.took, it.error];
            texts.map(str::to_owned).to_vec()
        };
        let rows: Vec<Vec<String>> = checked.iter().map(row).collect();
        Answer::rows(&HEALTH, &rows)
            .value(|| &checked)
            .fields(global, |fields| {
                for it in &checked {
                    fields.quoted("Endpoint", it.endpoint);
                    fields.line("Health", it.health);
                    fields.line("Took", it.took);
                    fields.line("Error", it.error);
                    fields.gap();
                }
            })
            .write(global)?;
    }
    match checked.iter().all(|it| it.health) {
        true => Ok(()),
        false => Err(Failure::new("unhealthy cluster")),
    }
}

fn health_lines(checked: &[Health<'_>]) -> Result<(), Failure> {
    for it in checked {
        let (endpoint, took, error) = (it.endpoint, it.took, it.error);
        match it.health {
            true => output::text(&format!(
                "{endpoint} is healthy: successfully committed proposal: took = {took}\n"
            ))?,
            false => eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}"),
        }
    }
    Ok(())
}

async fn status(global: &Global, endpoints: &[String]) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut failed = None;
    for endpoint in endpoints {
        let asked = async {
            let mut client = MaintenanceClient::new(one(global, endpoint).await?.channel);
            within(global, client.status(pb::StatusRequest {})).await
        };
        match asked.await {
            Ok(answer) => answers.push((endpoint.clone(), answer.into_inner())),
            Err(failure) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({failure})");
                failed = Some(Failure::silent());
            }
        }
    }
    let rows: Vec<Vec<String>> = answers
        .iter()
        .map(|(name, answer)| status_row(name, answer))
        .collect();
    Answer::rows(&STATUS, &rows)
        .value(|| listed(answers.iter().map(StatusOf::of)))
        .fields(global, |fields| {
            answers.iter().for_each(|it| status_fields(fields, it))
        })
        .write(global)?;
    failed.map_or(Ok(()), Err)
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

#[derive(Serialize)]
struct StatusOf<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "Status")]
    status: Message,
}

impl StatusOf<'_> {
    fn of((endpoint, status): &(String, pb::StatusResponse)) -> StatusOf<'_> {
        StatusOf {
            endpoint,
            status: Message::new("StatusResponse", status),
        }
    }
}

fn status_fields(fields: &mut Fields, (endpoint, status): &(String, pb::StatusResponse)) {
    let downgrade = status.downgrade_info.clone().unwrap_or_default();
    fields.header(&status.header);
    fields.quoted("Version", &status.version);
    fields.quoted("StorageVersion", &status.storage_version);
    fields.line("DBSize", status.db_size);
    fields.line("DBSizeInUse", status.db_size_in_use);
    fields.line("DBSizeQuota", status.db_size_quota);
    fields.line("Leader", status.leader);
    fields.line("IsLearner", status.is_learner);
    fields.line("RaftIndex", status.raft_index);
    fields.line("RaftAppliedIndex", status.raft_applied_index);
    fields.line("Errors", format_args!("[{}]", status.errors.join(" ")));
    fields.quoted("Endpoint", endpoint);
    fields.quoted("DowngradeTargetVersion", &downgrade.target_version);
    fields.line("DowngradeEnabled", downgrade.enabled);
    fields.gap();
}

#[derive(Serialize)]
struct HashOf<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "HashKV")]
    hash: Message,
}

impl HashOf<'_> {
    fn of((endpoint, hash): &(String, pb::HashKvResponse)) -> HashOf<'_> {
        HashOf {
            endpoint,
            hash: Message::new("HashKVResponse", hash),
        }
    }
}

async fn hash_kv(global: &Global, endpoints: &[String], revision: i64) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut failed = None;
    for endpoint in endpoints {
        let asked = async {
            let mut client = MaintenanceClient::new(one(global, endpoint).await?.channel);
            within(global, client.hash_kv(pb::HashKvRequest { revision })).await
        };
        match asked.await {
            Ok(answer) => answers.push((endpoint.clone(), answer.into_inner())),
            Err(failure) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({failure})");
                failed = Some(failure);
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
    Answer::rows(&HASH, &rows)
        .value(|| listed(answers.iter().map(HashOf::of)))
        .fields(global, |fields| {
            for (endpoint, answer) in &answers {
                fields.header(&answer.header);
                fields.quoted("Endpoint", endpoint);
                fields.line("Hash", answer.hash);
                fields.line("HashRevision", answer.hash_revision);
                fields.gap();
            }
        })
        .write(global)?;
    failed.map_or(Ok(()), Err)
}

/// A list in Go's JSON, where an empty one is null.
fn listed<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}
