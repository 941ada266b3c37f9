//! `member`.

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use serde_json::json;

use super::member_id;
use crate::cli::{Format, Global, Member};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::{json as answers, output};

const COLUMNS: [&str; 6] = [
    "ID",
    "Status",
    "Name",
    "Peer Addrs",
    "Client Addrs",
    "Is Learner",
];

/// `member`.
pub async fn member(global: &Global, command: Member) -> Result<(), Failure> {
    let mut client = ClusterClient::new(any(global).await?.channel);
    match command {
        Member::List => list(global, client).await,
        Member::Add {
            name,
            peer_urls,
            learner,
        } => add(global, client, &name, peer_urls, learner).await,
        Member::Remove { id } => {
            let id = member_id(&id)?;
            let request = pb::MemberRemoveRequest { id };
            let answer = within(global, client.member_remove(request))
                .await?
                .into_inner();
            done(global, id, "removed from", &answer.header)
        }
        Member::Update { id, peer_urls } => {
            let id = member_id(&id)?;
            let request = pb::MemberUpdateRequest {
                id,
                peer_ur_ls: peer_urls,
            };
            let answer = within(global, client.member_update(request))
                .await?
                .into_inner();
            done(global, id, "updated in", &answer.header)
        }
        Member::Promote { id } => {
            let id = member_id(&id)?;
            let request = pb::MemberPromoteRequest { id };
            let answer = within(global, client.member_promote(request))
                .await?
                .into_inner();
            done(global, id, "promoted in", &answer.header)
        }
    }
}

fn done(
    global: &Global,
    id: u64,
    what: &str,
    header: &Option<pb::ResponseHeader>,
) -> Result<(), Failure> {
    let cluster = header.as_ref().map_or(0, |header| header.cluster_id);
    let text = || format!("Member {id:>16x} {what} cluster {cluster:>16x}\n").into();
    output::answer(
        global,
        text,
        || json!({ "header": answers::header(header) }),
    )
}

async fn members(
    global: &Global,
    client: &mut ClusterClient<Channel>,
) -> Result<pb::MemberListResponse, Failure> {
    let request = pb::MemberListRequest { linearizable: true };
    Ok(within(global, client.member_list(request))
        .await?
        .into_inner())
}

async fn list(global: &Global, mut client: ClusterClient<Channel>) -> Result<(), Failure> {
    let answer = members(global, &mut client).await?;
    let row = |member: &pb::Member| {
        let status = if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        };
        vec![
            format!("{:x}", member.id),
            status.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = answer.members.iter().map(row).collect();
    output::rows(global, &COLUMNS, &rows, || answers::members(&answer))
}

async fn add(
    global: &Global,
    mut client: ClusterClient<Channel>,
    name: &str,
    peer_urls: Vec<String>,
    learner: bool,
) -> Result<(), Failure> {
    let request = pb::MemberAddRequest {
        peer_ur_ls: peer_urls.clone(),
        is_learner: learner,
    };
    let answer = within(global, client.member_add(request))
        .await?
        .into_inner();
    let added = answer.member.clone().unwrap_or_default();
    if global.write_out == Format::Json {
        let value = json!({
            "header": answers::header(&answer.header), "member": answers::member(&added),
            "members": answer.members.iter().map(answers::member).collect::<Vec<_>>(),
        });
        return output::text(&format!("{value}\n"));
    }
    let cluster = answer.header.as_ref().map_or(0, |header| header.cluster_id);
    let learner = if learner { " as learner " } else { " " };
    output::text(&format!(
        "Member {:>16x} added{learner}to cluster {cluster:>16x}\n",
        added.id
    ))?;
    // What the new member is to be started with.
    let pairs = answer.members.iter().flat_map(|member| {
        let name = if member.id == added.id {
            name
        } else {
            &member.name
        };
        member
            .peer_ur_ls
            .iter()
            .map(move |url| format!("{name}={url}"))
    });
    let pairs: Vec<String> = pairs.collect();
    output::text(&format!(
        "\nETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{}\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        pairs.join(","),
        peer_urls.join(",")
    ))
}
