//! `watch`, until it is interrupted: one watch of the command line, or as many as standard input asks for.

mod told;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;

use self::told::{Told, show};
use super::request::range;
use crate::cli::{Global, Watch, WatchLine};
use crate::connect::any_now;
use crate::failure::Failure;
use crate::go::words::words;

/// How long a member that is gone is left alone before the next is asked.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Requests that wait to be sent.
const REQUESTS_MAX: usize = 64;
/// The watch that is meant where an answer is about all of a stream.
const ALL: i64 = -1;

/// `watch`.
pub async fn watch(global: &Global, watch: Watch) -> Result<(), Failure> {
    let from = Environment::read()?;
    if watch.interactive {
        return interactive(global, &from).await;
    }
    let watch = from.completed(watch)?;
    let create = creation(&watch)?;
    let mut watching = Watching::new(global);
    watching.add(create, watch.command);
    watching.run(None).await
}

/// What `ETCDCTL_WATCH_KEY` and `ETCDCTL_WATCH_RANGE_END` say.
struct Environment {
    key: Option<OsString>,
    range_end: Option<OsString>,
}

impl Environment {
    fn read() -> Result<Environment, Failure> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let key = variable("ETCDCTL_WATCH_KEY");
        let range_end = variable("ETCDCTL_WATCH_RANGE_END");
        if let (None, Some(end)) = (&key, &range_end) {
            return Err(Failure::arguments(format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end:?}"
            )));
        }
        Ok(Environment { key, range_end })
    }

    /// A watch with the keys that its arguments or the variables name.
    fn completed(&self, watch: Watch) -> Result<Watch, Failure> {
        match (&watch.key, &self.key) {
            (None, None) => Err(Failure::arguments("bad number of arguments")),
            (Some(_), Some(_)) => Err(Failure::arguments(
                "bad number of arguments (found conflicting environment key)",
            )),
            (Some(_), None) => Ok(watch),
            (None, Some(key)) => Ok(Watch {
                key: Some(key.clone()),
                range_end: self.range_end.clone(),
                ..watch
            }),
        }
    }
}

fn creation(watch: &Watch) -> Result<pb::WatchCreateRequest, Failure> {
    if watch.range_end.is_some() && watch.prefix {
        return Err(Failure::arguments(
            "`range_end` and `--prefix` are mutually exclusive",
        ));
    }
    let key = watch.key.clone().unwrap_or_default();
    let (key, range_end) = range(key, watch.range_end.clone(), watch.prefix, false)?;
    Ok(pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: watch.rev,
        prev_kv: watch.prev_kv,
        progress_notify: watch.progress_notify,
        ..pb::WatchCreateRequest::default()
    })
}

/// A watch, and what is executed for its events.
struct One {
    create: pb::WatchCreateRequest,
    command: Vec<OsString>,
}

/// Watches, on one stream at a time.
struct Watching<'a> {
    global: &'a Global,
    watches: BTreeMap<i64, One>,
}

impl<'a> Watching<'a> {
    fn new(global: &'a Global) -> Watching<'a> {
        Watching {
            global,
            watches: BTreeMap::new(),
        }
    }

    /// Takes a watch in, and answers what asks for it.
    fn add(&mut self, mut create: pb::WatchCreateRequest, command: Vec<OsString>) -> RequestUnion {
        create.watch_id = self
            .watches
            .last_key_value()
            .map_or(1, |(last, _)| last + 1);
        let request = RequestUnion::CreateRequest(create.clone());
        self.watches
            .insert(create.watch_id, One { create, command });
        request
    }

    /// Waits for a member that answers, and goes on over whichever does, each watch from where it was. Ends where the
    /// server ends the only watch.
    async fn run(&mut self, mut lines: Option<mpsc::Receiver<Line>>) -> Result<(), Failure> {
        let mut channel = match any_now(self.global).await {
            Err(failure) if failure.is_unreached() => self.next_member().await,
            reached => reached?.channel,
        };
        loop {
            match self.stream(channel, &mut lines).await? {
                Ended::ByServer => {
                    return Err(Failure::interrupted("watch is canceled by the server"));
                }
                Ended::Broken => channel = self.next_member().await,
            }
        }
    }

    async fn next_member(&self) -> Channel {
        loop {
            tokio::time::sleep(RETRY_PAUSE).await;
            if let Ok(member) = any_now(self.global).await {
                return member.channel;
            }
        }
    }

    async fn stream(
        &mut self,
        channel: Channel,
        lines: &mut Option<mpsc::Receiver<Line>>,
    ) -> Result<Ended, Failure> {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX.max(self.watches.len()));
        let send = async |request| {
            let request = pb::WatchRequest {
                request_union: Some(request),
            };
            // Who ends the stream says so in its answers.
            let _ = sender.send(request).await;
        };
        for one in self.watches.values() {
            send(RequestUnion::CreateRequest(one.create.clone())).await;
        }
        let requests = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|request| (request, receiver))
        });
        let mut client =
            WatchClient::new(channel).max_decoding_message_size(self.global.answer_bytes_max());
        let mut answers = match client.watch(Box::pin(requests)).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return broken(status),
        };
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => {
                        if self.take(&answer).await? {
                            return Ok(Ended::ByServer);
                        }
                    }
                    Ok(None) => return Ok(Ended::Broken),
                    Err(status) => return broken(status),
                },
                line = next(lines) => match line {
                    Line::Watch(create, command) => send(self.add(create, command)).await,
                    Line::Progress => {
                        send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
                    }
                    Line::End(failure) => return Err(failure),
                },
            }
        }
    }

    /// Shows an answer. Whether it was the end of the only watch.
    async fn take(&mut self, answer: &pb::WatchResponse) -> Result<bool, Failure> {
        let told = Told::of(answer);
        if answer.watch_id == ALL {
            for _ in &self.watches {
                show(self.global, &told, &[]).await?;
            }
            return Ok(false);
        }
        let Some(one) = self.watches.get_mut(&answer.watch_id) else {
            return Ok(false);
        };
        if let Some(next) = next_revision(answer, one.create.start_revision) {
            one.create.start_revision = next;
        }
        if answer.created && !answer.canceled {
            return Ok(false);
        }
        show(self.global, &told, &one.command).await?;
        if answer.canceled {
            self.watches.remove(&answer.watch_id);
        }
        Ok(answer.canceled && self.watches.is_empty())
    }
}

/// Where a watch goes on behind an answer; none where it says nothing of that.
fn next_revision(answer: &pb::WatchResponse, start: i64) -> Option<i64> {
    let header = answer.header.as_ref().map_or(0, |header| header.revision);
    let last = answer.events.last().and_then(|event| event.kv.as_ref());
    match last {
        _ if answer.canceled => None,
        // What is behind may be on its way still.
        Some(kv) => Some(kv.mod_revision + 1),
        None if answer.created && start != 0 => None,
        None => (header > 0).then_some(header + 1),
    }
}

/// How a stream ended.
enum Ended {
    /// It said so.
    ByServer,
    /// The member is gone.
    Broken,
}

fn broken(status: tonic::Status) -> Result<Ended, Failure> {
    use tonic::Code;
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => Ok(Ended::Broken),
        _ => Err(status.into()),
    }
}

/// What a line of standard input asks for.
enum Line {
    Watch(pb::WatchCreateRequest, Vec<OsString>),
    Progress,
    End(Failure),
}

async fn next(lines: &mut Option<mpsc::Receiver<Line>>) -> Line {
    match lines {
        Some(lines) => lines
            .recv()
            .await
            .unwrap_or_else(|| Line::End(end_of_input())),
        None => std::future::pending().await,
    }
}

fn end_of_input() -> Failure {
    Failure::input("error reading watch request line: EOF")
}

/// Reads standard input on a thread of its own: nothing can stop a read that waits.
async fn interactive(global: &Global, from: &Environment) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    let from = Environment {
        key: from.key.clone(),
        range_end: from.range_end.clone(),
    };
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let Some(line) = read(&line, &from) else {
                continue;
            };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    Watching::new(global).run(Some(receiver)).await
}

/// A line; none, and why on standard error, where it is none.
fn read(line: &str, from: &Environment) -> Option<Line> {
    let read = words(line)
        .ok()
        .filter(|words| !words.is_empty())
        .map(|words| (words.first().cloned().unwrap_or_default(), words));
    let Some((verb, words)) = read else {
        eprintln!("Invalid command: {line} (watch and progress supported)");
        return None;
    };
    match WatchLine::read(words) {
        Ok(WatchLine::Progress) => Some(Line::Progress),
        Ok(WatchLine::Watch(watch)) if watch.key.is_none() && from.key.is_none() => {
            eprintln!("Invalid command {line} (command type or key is not provided)");
            None
        }
        Ok(WatchLine::Watch(watch)) => match from.completed(watch) {
            Err(failure) => Some(Line::End(failure)),
            Ok(watch) => match creation(&watch) {
                Ok(create) => Some(Line::Watch(create, watch.command)),
                Err(failure) => {
                    eprintln!("Invalid command {line} ({failure})");
                    None
                }
            },
        },
        Err(error) if verb == "watch" => {
            let error = error.kind();
            Some(Line::End(Failure::arguments(format!("{line}: {error}"))))
        }
        Err(_) => {
            eprintln!("Invalid command {line} (only support watch)");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(key: Option<&str>) -> Environment {
        Environment {
            key: key.map(Into::into),
            range_end: None,
        }
    }

    #[test]
    fn a_watch_goes_on_behind_what_it_was_told() {
        let answer = |created, mod_revision: Option<i64>| pb::WatchResponse {
            header: Some(pb::ResponseHeader {
                revision: 9,
                ..pb::ResponseHeader::default()
            }),
            created,
            events: mod_revision
                .map(|mod_revision| engram_proto::mvccpb::Event {
                    kv: Some(engram_proto::mvccpb::KeyValue {
                        mod_revision,
                        ..Default::default()
                    }),
                    ..Default::default()
                })
                .into_iter()
                .collect(),
            ..pb::WatchResponse::default()
        };
        assert_eq!(
            next_revision(&answer(true, None), 0),
            Some(10),
            "from now on"
        );
        assert_eq!(
            next_revision(&answer(true, None), 3),
            None,
            "3 is not told yet"
        );
        assert_eq!(next_revision(&answer(false, Some(5)), 3), Some(6));
        assert_eq!(next_revision(&answer(false, None), 6), Some(10), "progress");
    }

    #[test]
    fn lines_are_etcdctls() {
        let watch = read("watch \"a b\" --prefix --rev=7 -- echo 'x y'", &from(None));
        let Some(Line::Watch(create, command)) = watch else {
            panic!("a watch");
        };
        assert_eq!(&create.key[..], b"a b");
        assert_eq!(&create.range_end[..], b"a c");
        assert_eq!(create.start_revision, 7);
        assert_eq!(command, ["echo", "x y"]);
        assert!(matches!(
            read("progress", &from(None)),
            Some(Line::Progress)
        ));
        for ignored in ["", "put a b", "watch", "watch a b --prefix"] {
            assert!(read(ignored, &from(None)).is_none(), "{ignored}");
        }
        let named = read("watch", &from(Some("k")));
        assert!(matches!(named, Some(Line::Watch(create, _)) if create.key == "k"));
        let twice = read("watch a", &from(Some("k")));
        assert!(matches!(twice, Some(Line::End(_))));
    }
}
