//! What an election's leaders say, one after the other.

use std::collections::VecDeque;

use bytes::Bytes;
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::KeyValue;
use engram_proto::v3electionpb as electionpb;
use futures_util::stream;

use super::super::backend::Backend;
use super::super::error::Refusal;
use super::super::streams::{Answers, Outgoing, Requests, only_request};
use super::ask::{self, Asking};
use super::wait::{Seen, Watching, is_delete};
use super::{end_of, prefix_of};
use crate::codec::Frame;
use crate::types::KeyRange;
use engram_watch::Filter;

const ALL: Filter = Filter {
    no_put: false,
    no_delete: false,
};
const PUTS: Filter = Filter {
    no_put: false,
    no_delete: true,
};

/// A call that observes.
struct Observing<B: Backend> {
    asking: Asking<B>,
    prefix: Bytes,
    phase: Phase,
    /// What one response of the watch told, and is not sent yet.
    ready: VecDeque<electionpb::LeaderResponse>,
}

enum Phase {
    /// Who leads is to be read.
    Unknown,
    /// Nobody leads: the next who does is waited for.
    Vacant(Watching),
    /// Somebody leads: what it says is waited for, until its key goes.
    Led(Watching),
}

/// Where a call is.
enum Call<B: Backend> {
    Asked(Asking<B>, Requests),
    Open(Observing<B>),
}

impl<B: Backend> Asking<B> {
    /// Goes on until the client goes away. What is compacted before it was sent is left out, and the
    /// stream goes on with what is so now.
    pub(in super::super) fn observe(self, requests: Requests) -> Answers {
        let asked = Call::Asked(self, requests);
        Box::pin(stream::unfold(Some(asked), |call| async move {
            match call?.next().await {
                Ok((said, next)) => Some((
                    Ok(Outgoing::Frame(Frame::from(&said))),
                    Some(Call::Open(next)),
                )),
                Err(refusal) => Some((Err(refusal.through_client()), None)),
            }
        }))
    }
}

impl<B: Backend> Call<B> {
    async fn next(self) -> Result<(electionpb::LeaderResponse, Observing<B>), Refusal> {
        let mut observing = match self {
            Call::Open(observing) => observing,
            Call::Asked(asking, mut requests) => {
                let electionpb::LeaderRequest { name } = only_request(&mut requests).await?;
                Observing {
                    asking,
                    prefix: prefix_of(&name),
                    phase: Phase::Unknown,
                    ready: VecDeque::new(),
                }
            }
        };
        let said = observing.next().await?;
        Ok((said, observing))
    }
}

impl<B: Backend> Observing<B> {
    async fn next(&mut self) -> Result<electionpb::LeaderResponse, Refusal> {
        loop {
            if let Some(said) = self.ready.pop_front() {
                // What it may see may be another since the watch began.
                self.asking.check_may_read(&self.all()).await?;
                return Ok(said);
            }
            match &mut self.phase {
                Phase::Unknown => self.look().await?,
                Phase::Vacant(watch) => match watch.next().await? {
                    Seen::Compacted => self.phase = Phase::Unknown,
                    Seen::Events(header, events) => {
                        let first = events.into_iter().find_map(|event| event.kv);
                        self.elected(header, first);
                    }
                },
                Phase::Led(watch) => match watch.next().await? {
                    Seen::Compacted => self.phase = Phase::Unknown,
                    Seen::Events(header, events) => self.told(header, events),
                },
            }
        }
    }

    /// Reads who leads.
    async fn look(&mut self) -> Result<(), Refusal> {
        let mut found = self.asking.range(&ask::oldest(&self.prefix)).await?;
        let revision = found.header.as_ref().map_or(0, |header| header.revision);
        if let Some(kv) = found.kvs.pop() {
            self.follow(found.header, kv, revision);
            return Ok(());
        }
        self.phase = Phase::Vacant(Watching::begin(&self.asking, self.all(), revision, PUTS));
        Ok(())
    }

    /// The keys of the name.
    fn all(&self) -> KeyRange {
        KeyRange::from_request(self.prefix.clone(), end_of(&self.prefix))
    }

    /// Somebody leads where nobody did. The header speaks of that revision, though others may have
    /// followed.
    fn elected(&mut self, header: Option<pb::ResponseHeader>, first: Option<KeyValue>) {
        let Some(kv) = first else { return };
        let revision = kv.mod_revision;
        let header = header.map(|header| pb::ResponseHeader { revision, ..header });
        self.follow(header, kv, revision);
    }

    fn follow(&mut self, header: Option<pb::ResponseHeader>, kv: KeyValue, revision: i64) {
        let own = KeyRange::single(kv.key.clone());
        self.phase = Phase::Led(Watching::begin(&self.asking, own, revision + 1, ALL));
        let kv = Some(kv);
        self.ready
            .push_back(electionpb::LeaderResponse { header, kv });
    }

    fn told(
        &mut self,
        header: Option<pb::ResponseHeader>,
        events: Vec<engram_proto::mvccpb::Event>,
    ) {
        for event in events {
            if is_delete(&event) {
                self.phase = Phase::Unknown;
                return;
            }
            let kv = event.kv;
            self.ready
                .push_back(electionpb::LeaderResponse { header, kv });
        }
    }
}
