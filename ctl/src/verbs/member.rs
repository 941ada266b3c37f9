//! `member`.

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::cluster_client::ClusterClient;
use serde::Serialize;

use super::member_id;
use crate::cli::{Format, Global, Member};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::go::json::{self, Message};
use crate::output::{self, Answer};

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
    if let Member::Add { peer_urls, .. } | Member::Update { peer_urls, .. } = &command
        && peer_urls.iter().all(String::is_empty)
    {
        return Err(Failure::arguments("member peer urls not provided"));
    }
    let mut client = ClusterClient::new(any(global).await?.channel);
    match command {
        Member::List { consistency } => list(global, client, consistency == "l").await,
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
            done(
                global,
                id,
                "removed from",
                "MemberRemoveResponse",
                &answer,
                (&answer.header, &answer.members),
            )
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
            done(
                global,
                id,
                "updated in",
                "MemberUpdateResponse",
                &answer,
                (&answer.header, &answer.members),
            )
        }
        Member::Promote { id } => {
            let id = member_id(&id)?;
            let request = pb::MemberPromoteRequest { id };
            let answer = within(global, client.member_promote(request))
                .await?
                .into_inner();
            done(
                global,
                id,
                "promoted in",
                "MemberPromoteResponse",
                &answer,
                (&answer.header, &answer.members),
            )
        }
    }
}

fn done(
    global: &Global,
    id: u64,
    what: &str,
    name: &str,
    answer: &impl prost::Message,
    (header, members): (&Option<pb::ResponseHeader>, &[pb::Member]),
) -> Result<(), Failure> {
    let cluster = header.as_ref().map_or(0, |header| header.cluster_id);
    let shown = Answer::new(|| format!("Member {id:>16x} {what} cluster {cluster:>16x}\n").into())
        .message(name, answer);
    match global.hex {
        true => shown.value(|| Hex::of(header, None, members)),
        false => shown,
    }
    .write(global)
}

/// Members in JSON with `--hex`: their ids, and the cluster's, are hexadecimal text.
#[derive(Serialize)]
struct Hex {
    header: HexHeader,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<HexMember>,
    members: Vec<HexMember>,
}

#[derive(Serialize)]
struct HexHeader {
    cluster_id: String,
    member_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raft_term: Option<u64>,
}

#[derive(Serialize)]
struct HexMember {
    #[serde(rename = "ID")]
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "peerURLs", skip_serializing_if = "Vec::is_empty")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "Option::is_none")]
    is_learner: Option<bool>,
}

impl Hex {
    fn of(
        header: &Option<pb::ResponseHeader>,
        member: Option<&pb::Member>,
        members: &[pb::Member],
    ) -> Hex {
        let header = header.unwrap_or_default();
        Hex {
            header: HexHeader {
                cluster_id: format!("{:x}", header.cluster_id),
                member_id: format!("{:x}", header.member_id),
                revision: (header.revision != 0).then_some(header.revision),
                raft_term: (header.raft_term != 0).then_some(header.raft_term),
            },
            member: member.map(HexMember::of),
            members: members.iter().map(HexMember::of).collect(),
        }
    }
}

impl HexMember {
    fn of(member: &pb::Member) -> HexMember {
        HexMember {
            id: format!("{:x}", member.id),
            name: member.name.clone(),
            peer_urls: member.peer_ur_ls.clone(),
            client_urls: member.client_ur_ls.clone(),
            is_learner: member.is_learner.then_some(true),
        }
    }
}

async fn list(
    global: &Global,
    mut client: ClusterClient<Channel>,
    linearizable: bool,
) -> Result<(), Failure> {
    let request = pb::MemberListRequest { linearizable };
    let answer = within(global, client.member_list(request))
        .await?
        .into_inner();
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
    Answer::rows(&COLUMNS, &rows)
        .message("MemberListResponse", &answer)
        .json(|| match global.hex {
            true => json::line(&Hex::of(&answer.header, None, &answer.members)),
            false => json::line(&Message::new("MemberListResponse", &answer)),
        })
        .fields(global, |fields| {
            fields.header(&answer.header);
            for member in &answer.members {
                fields.id("ID", member.id);
                fields.quoted("Name", &member.name);
                for url in &member.peer_ur_ls {
                    fields.quoted("PeerURL", url);
                }
                for url in &member.client_ur_ls {
                    fields.quoted("ClientURL", url);
                }
                fields.line("IsLearner", member.is_learner);
                fields.gap();
            }
        })
        .write(global)
}

async fn add(
    global: &Global,
    mut client: ClusterClient<Channel>,
    name: &str,
    peer_urls: Vec<String>,
    learner: bool,
) -> Result<(), Failure> {
    let request = pb::MemberAddRequest {
        peer_ur_ls: peer_urls,
        is_learner: learner,
    };
    let answer = within(global, client.member_add(request))
        .await?
        .into_inner();
    let added = answer.member.clone().unwrap_or_default();
    let cluster = answer.header.as_ref().map_or(0, |header| header.cluster_id);
    let learner = if learner { " as learner " } else { " " };
    let line = format!(
        "Member {:>16x} added{learner}to cluster {cluster:>16x}\n",
        added.id
    );
    let shown = Answer::new(|| line.into()).message("MemberAddResponse", &answer);
    match global.hex {
        true => shown.value(|| Hex::of(&answer.header, Some(&added), &answer.members)),
        false => shown,
    }
    .write(global)?;
    if global.write_out != Format::Simple {
        return Ok(());
    }
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
        added.peer_ur_ls.join(",")
    ))
}
