//! `make-mirror`: what a cluster holds, and then every change of it, written to another cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::mvccpb::Event;
use engram_proto::mvccpb::event::EventType;
use pb::kv_client::KvClient;
use pb::request_op::Request;
use pb::watch_client::WatchClient;

use super::kv;
use super::request::prefix_range;
use crate::cli::{Global, Mirror};
use crate::connect::{any, within};
use crate::failure::Failure;
use crate::output;

/// Keys of a page of the first copy: etcd's own.
const PAGE_KEYS: i64 = 1_000;
/// How often it says how much it has written.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// What is under way.
struct Mirroring<'a> {
    global: &'a Global,
    destination: KvClient<Channel>,
    prefix: Vec<u8>,
    /// What the prefix becomes.
    becomes: Vec<u8>,
    operations_max: usize,
    written: Arc<AtomicU64>,
}

/// `make-mirror`, until it fails.
pub async fn mirror(global: &Global, mirror: Mirror) -> Result<(), Failure> {
    if mirror.no_dest_prefix && !mirror.dest_prefix.is_empty() {
        return Err(Failure::arguments(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let there = destination(global, &mirror);
    let destination = kv::client(&there, any(&there).await?.channel);
    let source = any(global).await?.channel;
    let copies_first = mirror.rev <= 1;
    let follows_prefix = copies_first && !mirror.no_dest_prefix && mirror.dest_prefix.is_empty();
    let becomes = match follows_prefix {
        true => mirror.prefix.clone(),
        false => mirror.dest_prefix.clone(),
    };
    let mut mirroring = Mirroring {
        global,
        destination,
        prefix: mirror.prefix.into_bytes(),
        becomes: becomes.into_bytes(),
        operations_max: mirror.max_txn_ops.max(1),
        written: Arc::default(),
    };
    tokio::spawn(report(mirroring.written.clone()));
    let next = match copies_first {
        true => mirroring.copy(source.clone()).await? + 1,
        false => mirror.rev,
    };
    mirroring.follow(source, next).await
}

/// The flags, as they are for the destination.
fn destination(global: &Global, mirror: &Mirror) -> Global {
    Global {
        endpoints: vec![mirror.destination.clone()],
        discovery_srv: None,
        cacert: mirror.dest_cacert.clone(),
        cert: mirror.dest_cert.clone(),
        key: mirror.dest_key.clone(),
        insecure_transport: mirror.dest_insecure_transport,
        insecure_skip_tls_verify: false,
        user: mirror.dest_user.clone(),
        password: mirror.dest_password.clone(),
        auth_jwt_token: None,
        ..global.clone()
    }
}

async fn report(written: Arc<AtomicU64>) {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        // Where nobody reads it any more, it is the mirror that counts.
        let _ = output::text(&format!("{}\n", written.load(Ordering::Relaxed)));
    }
}

impl Mirroring<'_> {
    /// Copies all keys as they are at one revision, which is returned.
    async fn copy(&mut self, source: Channel) -> Result<i64, Failure> {
        let mut client = kv::client(self.global, source);
        let (mut key, range_end) = prefix_range(&self.prefix);
        let mut revision = 0;
        loop {
            let request = pb::RangeRequest {
                key: key.clone().into(),
                range_end: range_end.clone().into(),
                limit: PAGE_KEYS,
                revision,
                ..pb::RangeRequest::default()
            };
            let answer = within(self.global, client.range(request))
                .await?
                .into_inner();
            if revision == 0 {
                revision = answer.header.map_or(0, |header| header.revision);
            }
            for kv in &answer.kvs {
                let request = self.put(&kv.key, &kv.value);
                within(self.global, self.destination.put(request)).await?;
                self.written.fetch_add(1, Ordering::Relaxed);
            }
            match answer.kvs.last() {
                Some(last) if answer.more => key = [&last.key[..], &[0]].concat(),
                _ => return Ok(revision),
            }
        }
    }

    /// Writes every change from a revision on.
    async fn follow(&mut self, source: Channel, start_revision: i64) -> Result<(), Failure> {
        let (key, range_end) = prefix_range(&self.prefix);
        let create = pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision,
            ..pb::WatchCreateRequest::default()
        };
        let create = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        // The stream of requests stays open: its end would be that of the watch.
        let requests = futures_util::stream::iter([create]);
        let requests = futures_util::StreamExt::chain(requests, futures_util::stream::pending());
        let mut client =
            WatchClient::new(source).max_decoding_message_size(self.global.answer_bytes_max());
        let mut answers = client.watch(requests).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if answer.compact_revision != 0 {
                let why = "etcdserver: mvcc: required revision has been compacted";
                return Err(Failure::new(why));
            }
            if answer.canceled {
                return Err(Failure::new(answer.cancel_reason));
            }
            self.write(&answer.events).await?;
        }
        Err(Failure::new("the server ended the watch"))
    }

    /// One transaction a revision, or several where it has more changes than fit.
    async fn write(&mut self, events: &[Event]) -> Result<(), Failure> {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for changes in events.chunk_by(|one, other| revision(one) == revision(other)) {
            for part in changes.chunks(self.operations_max) {
                let success = part.iter().map(|event| self.operation(event)).collect();
                let request = pb::TxnRequest {
                    success,
                    ..pb::TxnRequest::default()
                };
                within(self.global, self.destination.txn(request)).await?;
                self.written.fetch_add(part.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn operation(&self, event: &Event) -> pb::RequestOp {
        let kv = event.kv.clone().unwrap_or_default();
        let request = match event.r#type() {
            EventType::Put => Request::RequestPut(self.put(&kv.key, &kv.value)),
            EventType::Delete => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: self.renamed(&kv.key),
                ..pb::DeleteRangeRequest::default()
            }),
        };
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn put(&self, key: &[u8], value: &Bytes) -> pb::PutRequest {
        pb::PutRequest {
            key: self.renamed(key),
            value: value.clone(),
            ..pb::PutRequest::default()
        }
    }

    fn renamed(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(&self.prefix[..]).unwrap_or(key);
        [&self.becomes, rest].concat().into()
    }
}
