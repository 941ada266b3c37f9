//! `lease`.

use std::time::Duration;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::lease_client::LeaseClient;
use serde_json::json;

use super::{ANSWER_BYTES_MAX, lease_id};
use crate::cli::{Global, Lease};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::json::{base64, flattened, header};
use crate::output;

/// Renewals in a time to live.
const RENEWALS: u32 = 3;

/// `lease`.
pub async fn lease(global: &Global, command: Lease) -> Result<(), Failure> {
    let channel = any(global).await?.channel;
    let client = LeaseClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    match command {
        Lease::Grant { ttl } => grant(global, client, ttl).await,
        Lease::Revoke { id } => revoke(global, client, lease_id(&id)?).await,
        Lease::KeepAlive { id, once } => keep_alive(global, client, lease_id(&id)?, once).await,
        Lease::Timetolive { id, keys } => time_to_live(global, client, lease_id(&id)?, keys).await,
        Lease::List => list(global, client).await,
    }
}

async fn grant(global: &Global, mut client: LeaseClient<Channel>, ttl: i64) -> Result<(), Failure> {
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let answer = within(global, client.lease_grant(request))
        .await?
        .into_inner();
    let text = || {
        format!(
            "lease {:016x} granted with TTL({}s)\n",
            answer.id, answer.ttl
        )
        .into()
    };
    let value = || {
        let fields = json!({ "ID": answer.id, "TTL": answer.ttl, "Error": answer.error });
        flattened(&answer.header, fields)
    };
    output::answer(global, text, value)
}

async fn revoke(global: &Global, mut client: LeaseClient<Channel>, id: i64) -> Result<(), Failure> {
    let request = pb::LeaseRevokeRequest { id };
    let answer = within(global, client.lease_revoke(request))
        .await?
        .into_inner();
    let text = || format!("lease {id:016x} revoked\n").into();
    output::answer(global, text, || json!({ "header": header(&answer.header) }))
}

async fn keep_alive(
    global: &Global,
    mut client: LeaseClient<Channel>,
    id: i64,
    once: bool,
) -> Result<(), Failure> {
    loop {
        let request = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let answers = within(global, client.lease_keep_alive(request)).await?;
        let answer = within(global, answers.into_inner().message()).await?;
        let answer = answer.ok_or_else(|| Failure::new("the server ended the stream"))?;
        let Some(ttl) = u64::try_from(answer.ttl).ok().filter(|ttl| *ttl > 0) else {
            let text = || format!("lease {id:016x} expired or revoked.\n").into();
            return output::answer(global, text, || json!({ "ID": id, "TTL": -1 }));
        };
        let text = || format!("lease {id:016x} keepalived with TTL({ttl})\n").into();
        let value = || flattened(&answer.header, json!({ "ID": id, "TTL": ttl }));
        output::answer(global, text, value)?;
        if once {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(ttl) / RENEWALS).await;
    }
}

async fn time_to_live(
    global: &Global,
    mut client: LeaseClient<Channel>,
    id: i64,
    keys: bool,
) -> Result<(), Failure> {
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let answer = within(global, client.lease_time_to_live(request))
        .await?
        .into_inner();
    let (granted, ttl) = (answer.granted_ttl, answer.ttl);
    let text = || {
        if granted == 0 && ttl == -1 {
            return format!("lease {id:016x} already expired\n").into();
        }
        let mut text = format!("lease {id:016x} granted with TTL({granted}s), remaining({ttl}s)");
        if keys {
            let names = answer.keys.iter().map(|key| String::from_utf8_lossy(key));
            let names: Vec<_> = names.collect();
            text.push_str(&format!(", attached keys([{}])", names.join(" ")));
        }
        format!("{text}\n").into()
    };
    let value = || {
        let keys: Vec<String> = answer.keys.iter().map(|key| base64(key)).collect();
        // Go's empty list is null.
        let keys = (!keys.is_empty()).then_some(keys);
        let fields = json!({ "id": id, "ttl": ttl, "granted-ttl": granted, "keys": keys });
        flattened(&answer.header, fields)
    };
    output::answer(global, text, value)
}

async fn list(global: &Global, mut client: LeaseClient<Channel>) -> Result<(), Failure> {
    let request = pb::LeaseLeasesRequest {};
    let answer = within(global, client.lease_leases(request))
        .await?
        .into_inner();
    let text = || {
        let ids = answer
            .leases
            .iter()
            .map(|lease| format!("{:016x}\n", lease.id));
        let ids: String = ids.collect();
        format!("found {} leases\n{ids}", answer.leases.len()).into()
    };
    let value = || {
        let ids: Vec<_> = answer
            .leases
            .iter()
            .map(|lease| json!({ "id": lease.id }))
            .collect();
        flattened(&answer.header, json!({ "leases": ids }))
    };
    output::answer(global, text, value)
}
