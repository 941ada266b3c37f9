//! A peer that says what no peer may say, without TLS, or with a certificate that is good. It introduces
//! itself as a member: nothing it says may end a process, halt the cluster, or make durable what
//! refuses the next start.

use std::net::SocketAddr;
use std::time::Duration;

use engram_e2e::certificates::Authority;
use engram_e2e::cluster::{Cluster, LEADER_LIMIT, Plan};
use engram_e2e::random::Random;
use engram_e2e::raw::{Connection, Ended, framed, framed_bytes};
use engram_e2e::wallet::Wallet;
use engram_proto::peer::{
    AppendRequest, ChangeMembersRequest, HashKvRequest, Member, MembersRequest, MembersResponse,
    MoveLeaderRequest, ProposeRequest, RemoveMember, SnapshotBegin, SnapshotPart,
    TransferLeaderRequest, VoteRequest, change_members_request, snapshot_part,
};
use engram_proto::raft::{Entry, LogId, Membership, Node, Vote, VoterSet, entry};
use tonic_prost::prost::Message;
use tonic_prost::prost::bytes::Bytes;

use crate::calls::{self, PATIENCE};
use crate::case::{self, Case};
use crate::ci_or_full;

const SERVICE: &str = "/engram.peer.v1.Peer";
/// How long an answer is waited for: a stream of appends stays open.
const ANSWER_LIMIT: Duration = Duration::from_millis(600);
/// As long as a message may keep the cluster from its work: elections.
const WORKS_LIMIT: Duration = Duration::from_secs(30);

/// What the mean peer knows of the cluster it speaks to.
struct Knowledge {
    /// The leader, as whom it speaks to a follower.
    leader: Member,
    /// The follower, as whom it speaks to the leader.
    follower: Member,
    leader_place: usize,
    follower_place: usize,
    cluster: u64,
    term: u64,
    /// The last entry of the log.
    last: u64,
}

/// A message: its method, and its bytes.
struct Mean {
    method: &'static str,
    bytes: Vec<u8>,
}

fn mean(method: &'static str, message: &impl Message) -> Mean {
    Mean {
        method,
        bytes: message.encode_to_vec(),
    }
}

#[test]
fn votes_of_the_highest_terms() {
    speak("peer: votes of the highest terms", highest_votes);
}

#[test]
fn a_member_s_certificate_gives_no_right_to_end_the_cluster() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(&scratch.path().join("ca"));
    let mut wallet = Wallet::create(&scratch.path().join("wallet"));
    wallet.fill(&authority, "member", &[&authority]);
    let case = case::begin("peer with a certificate: votes of the highest terms");
    let cluster = Plan::of(3).secured_by(&wallet).start();
    let door = cluster.server(0).peer_address();
    let plain = cluster.runtime().block_on(plainly(door));
    case.saw(format!("without TLS: {plain:?}"));
    assert!(plain.is_err(), "a peer without TLS was answered: {plain:?}");
    speak_to(&case, cluster, Some(wallet), highest_votes);
}

/// Asks for the members without TLS.
async fn plainly(door: SocketAddr) -> Result<MembersResponse, String> {
    let connection = Connection::open(door, true).await?;
    let path = format!("{SERVICE}/Members");
    let headers = introduction(0, None, None);
    let call = connection.begin(&path, &headers, framed(&MembersRequest {}), true);
    let answer = call.await?.message::<MembersResponse>().await;
    answer.map_err(|ended| format!("{ended:?}"))
}

fn highest_votes(known: &Knowledge) -> Vec<Mean> {
    let terms = [u64::MAX, u64::MAX - 1, i64::MAX.unsigned_abs(), 1 << 62];
    let mut messages = Vec::new();
    for term in terms {
        for (pre_vote, leadership_transfer) in [(true, false), (false, false), (false, true)] {
            let vote = Vote {
                term,
                ..known.vote()
            };
            let request = VoteRequest {
                vote: Some(Vote {
                    committed: false,
                    ..vote
                }),
                last: Some(LogId {
                    term,
                    index: u64::MAX,
                }),
                pre_vote,
                leadership_transfer,
            };
            messages.push(mean("Vote", &request));
            let append = AppendRequest {
                vote: Some(vote),
                ..AppendRequest::default()
            };
            messages.push(mean("Append", &append));
        }
    }
    messages
}

#[test]
fn batches_that_cannot_be_decoded() {
    speak("peer: append of batches that cannot be decoded", |known| {
        let bad: [&[u8]; 4] = [
            // A length beyond the end; a version nobody knows; nothing; noise.
            &[0x2a, 0x7f, 1],
            &[0x08, 0xff, 0xff, 0xff, 0x7f],
            &[],
            &[0xff; 64],
        ];
        let append = |bytes: &[u8]| {
            let payload = entry::Payload::Batch(bytes.to_vec().into());
            known.append(known.last, known.last + 1, Some(payload))
        };
        bad.iter()
            .map(|bytes| mean("Append", &append(bytes)))
            .collect()
    });
}

#[test]
fn indexes_at_the_end_of_all_numbers() {
    speak("peer: append with the highest indexes", |known| {
        let mut messages = Vec::new();
        for index in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let blank = || Some(entry::Payload::Blank(Default::default()));
            messages.push(mean("Append", &known.append(index - 1, index, blank())));
            messages.push(mean("Append", &known.append(known.last, index, blank())));
            messages.push(mean(
                "Append",
                &AppendRequest {
                    prev: Some(LogId {
                        term: known.term,
                        index,
                    }),
                    ..known.append(0, 0, None)
                },
            ));
            messages.push(mean(
                "Append",
                &AppendRequest {
                    vote: Some(known.vote()),
                    prev: Some(LogId {
                        term: known.term,
                        index: known.last,
                    }),
                    committed: Some(LogId {
                        term: known.term,
                        index,
                    }),
                    entries: Vec::new(),
                },
            ));
        }
        messages
    });
}

#[test]
fn memberships_that_make_no_sense() {
    speak("peer: append of memberships that make no sense", |known| {
        let set = |ids: &[u64]| VoterSet { ids: ids.to_vec() };
        let node = |id| Node {
            id,
            peer_urls: vec!["http://127.0.0.1:1".to_owned()],
            ..Node::default()
        };
        let memberships = [
            Membership::default(),
            Membership {
                configs: vec![set(&[])],
                nodes: vec![],
            },
            Membership {
                configs: vec![set(&[1, 2, 3])],
                nodes: vec![],
            },
            Membership {
                configs: vec![set(&[0])],
                nodes: vec![node(0)],
            },
            Membership {
                configs: vec![set(&[7]); 9],
                nodes: vec![node(7)],
            },
        ];
        let append = |membership| {
            let payload = entry::Payload::Membership(membership);
            known.append(known.last, known.last + 1, Some(payload))
        };
        memberships
            .map(|membership| mean("Append", &append(membership)))
            .into()
    });
}

#[test]
fn everything_else_that_makes_no_sense() {
    speak("peer: other messages that make no sense", |known| {
        let huge = Some(LogId {
            term: u64::MAX,
            index: u64::MAX,
        });
        let begin = SnapshotBegin {
            vote: Some(known.vote()),
            last: huge,
            membership_at: huge,
            ..SnapshotBegin::default()
        };
        let remove = change_members_request::Change::Remove(RemoveMember { id: u64::MAX });
        vec![
            mean(
                "Propose",
                &ProposeRequest {
                    batch: vec![0xff; 40].into(),
                },
            ),
            mean(
                "Propose",
                &ProposeRequest {
                    batch: Bytes::new(),
                },
            ),
            mean("HashKV", &HashKvRequest { revision: i64::MIN }),
            mean("MoveLeader", &MoveLeaderRequest { to: u64::MAX }),
            mean("ChangeMembers", &ChangeMembersRequest { change: None }),
            mean(
                "ChangeMembers",
                &ChangeMembersRequest {
                    change: Some(remove),
                },
            ),
            mean(
                "TransferLeader",
                &TransferLeaderRequest {
                    from: Some(Vote {
                        term: u64::MAX,
                        ..known.vote()
                    }),
                    to: known.follower.id,
                    last: huge,
                },
            ),
            mean(
                "InstallSnapshot",
                &SnapshotPart {
                    part: Some(snapshot_part::Part::Begin(begin)),
                },
            ),
            mean("InstallSnapshot", &SnapshotPart { part: None }),
        ]
    });
}

#[test]
fn noise_and_messages_with_flipped_bits() {
    let count = ci_or_full(150, 5_000);
    let mut random = Random::new(Random::seed_from("ENGRAM_FAULTS_SEED"));
    speak("peer: noise and flipped bits", |known| {
        let blank = || Some(entry::Payload::Blank(Default::default()));
        let vote = VoteRequest {
            vote: Some(Vote {
                committed: false,
                ..known.vote()
            }),
            last: Some(LogId {
                term: known.term,
                index: known.last,
            }),
            ..VoteRequest::default()
        };
        let sound = [
            mean("Append", &known.append(known.last, known.last + 1, blank())),
            mean("Vote", &vote),
            mean(
                "TransferLeader",
                &TransferLeaderRequest {
                    from: Some(known.vote()),
                    to: known.follower.id,
                    last: Some(LogId {
                        term: known.term,
                        index: known.last,
                    }),
                },
            ),
            mean(
                "Propose",
                &ProposeRequest {
                    batch: vec![8, 1, 16, 5, 24, 9].into(),
                },
            ),
            mean("ReadIndex", &MembersRequest {}),
        ];
        let mut messages = Vec::new();
        for number in 0..count {
            let one = &sound[number % sound.len()];
            let mut bytes = one.bytes.clone();
            if random.percent(20) || bytes.is_empty() {
                bytes = random.bytes(40);
            }
            for _ in 0..=random.below(2) {
                let place = usize::try_from(random.below(bytes.len() as u64)).expect("small");
                bytes[place] ^= 1 << random.below(8);
            }
            messages.push(Mean {
                method: one.method,
                bytes,
            });
        }
        messages
    });
}

impl Knowledge {
    /// The leader's own vote.
    fn vote(&self) -> Vote {
        Vote {
            term: self.term,
            node: self.leader.id,
            committed: true,
        }
    }

    fn append(&self, prev: u64, index: u64, payload: Option<entry::Payload>) -> AppendRequest {
        let entry = Entry {
            term: self.term,
            index,
            payload,
        };
        AppendRequest {
            vote: Some(self.vote()),
            prev: Some(LogId {
                term: self.term,
                index: prev,
            }),
            committed: None,
            entries: vec![entry],
        }
    }
}

/// Says it all to a follower as the leader, and to the leader as a follower. After each message every
/// process runs and the cluster takes a write; at the end all restart and hold the same.
fn speak(name: &'static str, messages: impl FnOnce(&Knowledge) -> Vec<Mean>) {
    speak_to(&case::begin(name), Plan::of(3).start(), None, messages);
}

fn speak_to(
    case: &Case,
    mut cluster: Cluster,
    wallet: Option<Wallet>,
    messages: impl FnOnce(&Knowledge) -> Vec<Mean>,
) {
    calls::must_take_a_write(&cluster, 0, PATIENCE);
    let messages = messages(&learn(&cluster, wallet.as_ref()));
    let many = messages.len() > 100;
    let mut answers = std::collections::BTreeMap::<String, usize>::new();
    let mut fault = None;
    for (number, message) in messages.iter().enumerate() {
        // Elections may have been held since.
        let known = learn(&cluster, wallet.as_ref());
        for to_leader in [false, true] {
            let answer = cluster.runtime().block_on(say(
                &cluster,
                &known,
                to_leader,
                message,
                wallet.as_ref(),
            ));
            *answers.entry(answer).or_default() += 1;
        }
        // With very many of them not after each one.
        if many && number % 50 != 0 {
            continue;
        }
        if let Err(what) = works(&mut cluster) {
            fault = Some(format!(
                "after message {number} ({}) {what}",
                message.method
            ));
            break;
        }
    }
    if let Some(fault) = &fault {
        case.saw(format!("{fault}; answers {answers:?}"));
        cluster.fail(fault);
    }
    for place in 0..3 {
        cluster.kill(place);
    }
    for place in 0..3 {
        cluster.relaunch(place);
    }
    // Long enough for a start to read its log and be refused.
    std::thread::sleep(Duration::from_secs(2));
    let ends: Vec<String> = (0..3)
        .filter_map(|place| {
            let ended = cluster.ended_within(place, Duration::ZERO)?;
            Some(format!("{ended}: {}", cluster.server(place).last_line()))
        })
        .collect();
    case.saw(format!(
        "{} messages twice, answers {answers:?}; starts that were refused: {ends:?}",
        messages.len()
    ));
    cluster.must(ends.is_empty(), || format!("{ends:?}"));
    for place in 0..3 {
        cluster.must_become_ready(place);
        calls::must_take_a_write(&cluster, place, PATIENCE);
    }
    cluster.must_hold_the_same();
}

fn works(cluster: &mut Cluster) -> Result<(), String> {
    std::thread::sleep(Duration::from_millis(20));
    let began = std::time::Instant::now();
    for place in 0..3 {
        loop {
            let written = calls::put(cluster, place, "a", b"b", Duration::from_secs(8));
            let Err(status) = written else { break };
            if !cluster.is_running(place) {
                return Err(format!(
                    "m{} ended: {}",
                    place + 1,
                    cluster.server(place).last_line()
                ));
            }
            if began.elapsed() > WORKS_LIMIT {
                return Err(format!(
                    "m{} takes no write: {}",
                    place + 1,
                    status.message()
                ));
            }
        }
    }
    for place in 0..3 {
        if !cluster.is_running(place) {
            return Err(format!(
                "m{} ended: {}",
                place + 1,
                cluster.server(place).last_line()
            ));
        }
        let output = cluster.server(place).output();
        if output.contains("panicked") {
            return Err(format!("m{} panicked", place + 1));
        }
    }
    Ok(())
}

/// Asks the leader as anybody may who does not know the cluster yet.
fn learn(cluster: &Cluster, wallet: Option<&Wallet>) -> Knowledge {
    let leader = cluster.wait_for_leader(LEADER_LIMIT);
    let follower_place = (leader.place + 1) % 3;
    let follower = cluster.member_id(follower_place);
    let address = cluster.server(leader.place).peer_address();
    let told = cluster.runtime().block_on(async {
        let connection = dial(address, wallet).await.expect("a connection");
        let headers = introduction(0, None, None);
        let path = format!("{SERVICE}/Members");
        let call = connection.begin(&path, &headers, framed(&MembersRequest {}), true);
        call.await
            .expect("a call")
            .message::<MembersResponse>()
            .await
    });
    let told = told.unwrap_or_else(|ended| cluster.fail(&format!("no members: {ended:?}")));
    let find = |id: u64| {
        let found = told.members.iter().find(|member| member.id == id);
        found.cloned().expect("the member is in the table")
    };
    let status = cluster.status(leader.place).expect("a status");
    Knowledge {
        leader: find(leader.id),
        follower: find(follower),
        leader_place: leader.place,
        follower_place,
        cluster: told.cluster,
        term: status.raft_term,
        last: status.raft_index,
    }
}

async fn dial(address: SocketAddr, wallet: Option<&Wallet>) -> Result<Connection, String> {
    match wallet {
        Some(wallet) => Connection::open_securely(address, wallet).await,
        None => Connection::open(address, true).await,
    }
}

fn introduction(
    cluster: u64,
    from: Option<&Member>,
    to: Option<&Member>,
) -> Vec<(&'static str, String)> {
    let of =
        |member: Option<&Member>| member.map_or((0, 0), |member| (member.id, member.incarnation));
    let (from, to) = (of(from), of(to));
    vec![
        ("engram-protocol", "1".to_owned()),
        ("engram-cluster", format!("{cluster:x}")),
        ("engram-from", format!("{:x}", from.0)),
        ("engram-from-incarnation", format!("{:x}", from.1)),
        ("engram-to", format!("{:x}", to.0)),
        ("engram-to-incarnation", format!("{:x}", to.1)),
    ]
}

/// What was answered, in short.
async fn say(
    cluster: &Cluster,
    known: &Knowledge,
    to_leader: bool,
    message: &Mean,
    wallet: Option<&Wallet>,
) -> String {
    let (from, to, place) = match to_leader {
        true => (&known.follower, &known.leader, known.leader_place),
        false => (&known.leader, &known.follower, known.follower_place),
    };
    let address = cluster.server(place).peer_address();
    let headers = introduction(known.cluster, Some(from), Some(to));
    let path = format!("{SERVICE}/{}", message.method);
    let body = framed_bytes(&message.bytes);
    let spoken = async {
        let connection = dial(address, wallet).await?;
        let call = connection.begin(&path, &headers, body, true).await?;
        Ok::<Ended, String>(call.read_to_the_end().await)
    };
    match tokio::time::timeout(ANSWER_LIMIT, spoken).await {
        Ok(Ok(ended)) => format!("{} {} {}", message.method, ended.status, ended.message),
        Ok(Err(error)) => format!("{} {error}", message.method),
        Err(_) => format!("{} none in time", message.method),
    }
}
