//! `lease`.

use std::time::Duration;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::lease_client::LeaseClient;
use serde::Serialize;

use crate::cli::{Format, Global, Lease};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::go::json::{self, base64};
use crate::go::numbers::{Hex16, parse_int};
use crate::output::{self, Answer};

/// Renewals in a time to live.
const RENEWALS: u32 = 3;

type Client = LeaseClient<Channel>;

/// `lease`.
pub async fn lease(global: &Global, command: Lease) -> Result<(), Failure> {
    // What makes no sense is said before anybody is asked.
    let id = match &command {
        Lease::Revoke { id } | Lease::KeepAlive { id, .. } | Lease::Timetolive { id, .. } => {
            parse_int(id).map_err(|why| {
                Failure::arguments(format!("bad lease ID arg ({why}), expecting ID in Hex"))
            })?
        }
        Lease::Grant { .. } | Lease::List => 0,
    };
    let channel = any(global).await?.channel;
    let client = LeaseClient::new(channel).max_decoding_message_size(global.answer_bytes_max());
    match command {
        Lease::Grant { ttl } => grant(global, client, ttl).await,
        Lease::Revoke { .. } => revoke(global, client, id).await,
        Lease::KeepAlive { once, .. } => keep_alive(global, client, id, once).await,
        Lease::Timetolive { keys, .. } => time_to_live(global, client, id, keys).await,
        Lease::List => list(global, client).await,
    }
}

/// A header whose fields stand beside the others, as in Go's types of leases.
#[derive(Clone, Copy, Serialize)]
struct Header {
    #[serde(skip_serializing_if = "is_zero")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    member_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    revision: u64,
    #[serde(skip_serializing_if = "is_zero")]
    raft_term: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Header {
    fn of(header: &Option<pb::ResponseHeader>) -> Header {
        let header = header.unwrap_or_default();
        Header {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: u64::try_from(header.revision).unwrap_or_default(),
            raft_term: header.raft_term,
        }
    }
}

#[derive(Serialize)]
struct Granted<'a> {
    #[serde(flatten)]
    header: Header,
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
    #[serde(rename = "Error")]
    error: &'a str,
}

#[derive(Serialize)]
struct Kept {
    #[serde(flatten)]
    header: Header,
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
}

#[derive(Serialize)]
struct Left {
    #[serde(flatten)]
    header: Header,
    id: i64,
    ttl: i64,
    #[serde(rename = "granted-ttl")]
    granted: i64,
    /// Go's empty list is null.
    keys: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    header: Header,
    leases: Vec<Id>,
}

#[derive(Serialize)]
struct Id {
    id: i64,
}

async fn grant(global: &Global, mut client: Client, ttl: i64) -> Result<(), Failure> {
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let granted = within(global, client.lease_grant(request)).await;
    let answer = granted
        .map_err(|failure| Failure::new(format!("failed to grant lease ({failure})")))?
        .into_inner();
    let (id, ttl) = (answer.id, answer.ttl);
    Answer::new(|| format!("lease {} granted with TTL({ttl}s)\n", Hex16(id)).into())
        .header(&answer.header)
        .value(|| Granted {
            header: Header::of(&answer.header),
            id,
            ttl,
            error: &answer.error,
        })
        .fields(global, |fields| {
            fields.header(&answer.header);
            fields.lease("ID", id);
            fields.line("TTL", ttl);
        })
        .write(global)
}

async fn revoke(global: &Global, mut client: Client, id: i64) -> Result<(), Failure> {
    let request = pb::LeaseRevokeRequest { id };
    let revoked = within(global, client.lease_revoke(request)).await;
    let answer = revoked
        .map_err(|failure| Failure::new(format!("failed to revoke lease ({failure})")))?
        .into_inner();
    Answer::new(|| format!("lease {} revoked\n", Hex16(id)).into())
        .message("LeaseRevokeResponse", &answer)
        .fields(global, |fields| fields.header(&answer.header))
        .write(global)
}

async fn keep_alive(
    global: &Global,
    mut client: Client,
    id: i64,
    once: bool,
) -> Result<(), Failure> {
    loop {
        let answer = keep_alive_once(global, &mut client, id).await?;
        let Some(ttl) = u64::try_from(answer.ttl).ok().filter(|ttl| *ttl > 0) else {
            return match (once, global.write_out) {
                (true, _) => Err(Failure::connection("etcdserver: requested lease not found")),
                (false, Format::Simple) => {
                    output::text(&format!("lease {} expired or revoked.\n", Hex16(id)))
                }
                (false, _) => Ok(()),
            };
        };
        Answer::new(|| format!("lease {} keepalived with TTL({ttl})\n", Hex16(id)).into())
            .header(&answer.header)
            .value(|| Kept {
                header: Header::of(&answer.header),
                id,
                ttl: answer.ttl,
            })
            .fields(global, |fields| {
                fields.header(&answer.header);
                fields.lease("ID", id);
                fields.line("TTL", ttl);
            })
            .write(global)?;
        if once {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(ttl) / RENEWALS).await;
    }
}

/// Renews a lease. Its time to live is 0 where there is none.
pub async fn keep_alive_once(
    global: &Global,
    client: &mut Client,
    id: i64,
) -> Result<pb::LeaseKeepAliveResponse, Failure> {
    let request = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id }]);
    let answers = within(global, client.lease_keep_alive(request)).await;
    let mut answers = answers.map_err(Failure::connection)?.into_inner();
    let answer = within(global, answers.message()).await;
    let answer = answer.map_err(Failure::connection)?;
    answer.ok_or_else(|| Failure::connection("the server ended the stream"))
}

async fn time_to_live(
    global: &Global,
    mut client: Client,
    id: i64,
    keys: bool,
) -> Result<(), Failure> {
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let asked = within(global, client.lease_time_to_live(request)).await;
    let answer = asked.map_err(Failure::connection)?.into_inner();
    let (granted, ttl) = (answer.granted_ttl, answer.ttl);
    let text = || {
        if granted == 0 && ttl == -1 {
            return format!("lease {} already expired\n", Hex16(id)).into();
        }
        let mut text = format!(
            "lease {} granted with TTL({granted}s), remaining({ttl}s)",
            Hex16(id)
        );
        if keys {
            let names = answer.keys.iter().map(|key| String::from_utf8_lossy(key));
            let names: Vec<_> = names.collect();
            text.push_str(&format!(", attached keys([{}])", names.join(" ")));
        }
        format!("{text}\n").into()
    };
    Answer::new(text)
        .header(&answer.header)
        .value(|| {
            let keys: Vec<String> = answer.keys.iter().map(|key| base64(key)).collect();
            Left {
                header: Header::of(&answer.header),
                id,
                ttl,
                granted,
                keys: (!keys.is_empty()).then_some(keys),
            }
        })
        .fields(global, |fields| {
            fields.header(&answer.header);
            fields.lease("ID", id);
            fields.line("TTL", ttl);
            fields.line("GrantedTTL", granted);
            for key in &answer.keys {
                fields.quoted("Key", key);
            }
        })
        .write(global)
}

async fn list(global: &Global, mut client: Client) -> Result<(), Failure> {
    let asked = within(global, client.lease_leases(pb::LeaseLeasesRequest {})).await;
    let answer = asked.map_err(Failure::connection)?.into_inner();
    let ids = || answer.leases.iter().map(|lease| lease.id);
    let text = || {
        let lines: String = ids().map(|id| format!("{}\n", Hex16(id))).collect();
        format!("found {} leases\n{lines}", answer.leases.len()).into()
    };
    Answer::new(text)
        .header(&answer.header)
        .json(|| {
            json::line(&Listed {
                header: Header::of(&answer.header),
                leases: ids().map(|id| Id { id }).collect(),
            })
        })
        .fields(global, |fields| {
            fields.header(&answer.header);
            for id in ids() {
                fields.lease("ID", id);
            }
        })
        .write(global)
}
