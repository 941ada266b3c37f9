//! The source's changes, as they come, until its revision is reached.

use std::path::PathBuf;
use std::time::Duration;

use engram_proto::etcdserverpb as pb;
use engram_proto::etcdserverpb::watch_client::WatchClient;
use engram_proto::mvccpb::Event;
use engram_proto::mvccpb::event::EventType;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Streaming;

use super::apply::Target;
use super::side::{Side, within};
use crate::cli::Import;
use crate::failure::Failure;
use crate::verbs::session::Signals;

/// How often the source is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is looked which leases are due for renewal: the shortest that etcd grants lives longer.
const RENEW: Duration = Duration::from_secs(1);
/// How long the source may tell nothing while it is ahead.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// What is said once it is to end.
const ENDING: &str = "ending with what the source has by now";

/// A watch of the source.
pub(super) struct Watch {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
    /// Every change up to here has been seen.
    seen: i64,
}

impl Watch {
    /// From `revision` on.
    pub async fn open(from: &Side, revision: i64) -> Result<Watch, Failure> {
        let create = pb::WatchCreateRequest {
            key: from.key.clone(),
            range_end: from.range_end.clone(),
            start_revision: revision,
            ..pb::WatchCreateRequest::default()
        };
        let (requests, queued) = mpsc::channel(4);
        let client = WatchClient::new(from.channel.clone());
        let mut client = client.max_decoding_message_size(usize::MAX);
        let first = RequestUnion::CreateRequest(create);
        // The queue has room: it was made just now.
        let _ = requests.try_send(request(first));
        let queued = futures_util::stream::unfold(queued, |mut queued| async move {
            let next = queued.recv().await?;
            Some((next, queued))
        });
        let answers = within(client.watch(queued)).await?.into_inner();
        Ok(Watch {
            requests,
            answers,
            seen: revision - 1,
        })
    }

    /// Asks how far it has come: other keys than those that are watched may have changed.
    fn ask(&self) {
        // One that is queued already will do.
        let ask = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        let _ = self.requests.try_send(request(ask));
    }
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(union),
    }
}

/// When an import ends.
struct End {
    signals: Signals,
    /// Whether it ends with the next revision that is reached.
    wanted: bool,
    /// Who writes into this file wants it to.
    file: Option<PathBuf>,
}

impl End {
    /// When these flags say.
    fn of(import: &Import) -> Result<End, Failure> {
        Ok(End {
            signals: Signals::caught()?,
            wanted: import.until_equal,
            file: import.until_file.clone(),
        })
    }

    /// Looks into the file.
    async fn look(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| !self.wanted) else {
            return;
        };
        // One that is not there yet says nothing.
        let written = tokio::fs::metadata(file).await;
        if written.is_ok_and(|file| file.len() > 0) {
            self.wanted = true;
            eprintln!("{ENDING}");
        }
    }

    async fn asked_for(&mut self) {
        self.signals.next().await;
        self.wanted = true;
    }
}

/// Follows until both are equal and it is to end; the source's revision of that moment.
pub(super) async fn until_equal(
    from: &Side,
    watch: &mut Watch,
    target: &mut Target<'_>,
    import: &Import,
) -> Result<i64, Failure> {
    let mut end = End::of(import)?;
    let (mut look, mut renew) = (interval(LOOK), interval(RENEW));
    for every in [&mut look, &mut renew] {
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut told = false;
    let mut last_word = Instant::now();
    loop {
        tokio::select! {
            answer = watch.answers.message() => {
                last_word = Instant::now();
                take(watch, target, answer?).await?;
            }
            _ = look.tick() => {
                // Before the source is asked: what it has had by then is copied too.
                end.look().await;
                target.flush().await?;
                let revision = from.revision().await?;
                if watch.seen >= revision {
                    if end.wanted {
                        return Ok(revision);
                    }
                    if !told {
                        eprintln!("equal at revision {revision} of the source; following");
                        told = true;
                    }
                } else if last_word.elapsed() > SILENCE_LIMIT {
                    return Err(Failure::new(format!(
                        "the source is at revision {revision} and tells nothing behind {}", watch.seen
                    )));
                }
                watch.ask();
            }
            _ = renew.tick() => target.leases.keep_alive().await?,
            () = end.asked_for() => eprintln!("{ENDING}"),
        }
    }
}

async fn take(
    watch: &mut Watch,
    target: &mut Target<'_>,
    answer: Option<pb::WatchResponse>,
) -> Result<(), Failure> {
    let Some(answer) = answer else {
        return Err(Failure::new(
            "the source ended the watch: begin again with --replace",
        ));
    };
    if answer.canceled {
        return Err(Failure::new(format!(
            "the source ended the watch (compacted at {}) {}: begin again with --replace",
            answer.compact_revision, answer.cancel_reason
        )));
    }
    let last = answer
        .events
        .iter()
        .filter_map(|event| Some(event.kv.as_ref()?.mod_revision));
    let told = match (last.max(), answer.created, answer.header) {
        (Some(revision), _, _) => revision,
        // Of progress: nothing up to here is still to come.
        (None, false, Some(header)) => header.revision,
        (None, _, _) => watch.seen,
    };
    for event in answer.events {
        change(target, event).await?;
    }
    watch.seen = watch.seen.max(told);
    Ok(())
}

async fn change(target: &mut Target<'_>, event: Event) -> Result<(), Failure> {
    let kind = event.r#type();
    match (event.kv, kind) {
        (Some(kv), EventType::Put) => target.put(kv).await,
        (Some(kv), EventType::Delete) => target.delete(kv.key).await,
        (None, _) => Ok(()),
    }
}
