//! Sending spans to a collector, in batches, on a thread of its own.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use engram_process::{log, threads};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prometheus::{IntCounter, Registry};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::queue::Queue;
use super::{Settings, Spans};

/// Spans that wait to be sent at most, as in etcd.
pub(crate) const QUEUE_SPANS_MAX: usize = 2048;
/// Spans in a batch at most, and how long the first of one waits for others, as in etcd.
const BATCH_SPANS_MAX: usize = 512;
const BATCH_DELAY: Duration = Duration::from_secs(5);
/// How long a collector may take for a batch.
const SEND_TIME: Duration = Duration::from_secs(10);
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often a batch is tried that the collector could not take, and the time between: a collector that is
/// started anew misses nothing but what the queue has no place for.
const TRIES_MAX: u32 = 12;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long what is left is sent for when the member stops.
const STOP_TIME: Duration = Duration::from_millis(800);

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is none.
    #[error("--distributed-tracing-address={address}: {source}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// The system has no thread or no events to give.
    #[error("the thread that sends spans: {0}")]
    System(#[from] io::Error),
}

/// Sends spans until it is stopped.
pub struct Exporter {
    spans: Spans,
    stopping: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Starts to send spans.
///
/// # Errors
/// The address is none, or the system has no thread to give.
///
/// # Panics
/// The registry has an exporter's counters already.
pub fn start(settings: &Settings, registry: &Registry) -> Result<Exporter, StartError> {
    let address = &settings.address;
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|source| StartError::Address {
        address: address.clone(),
        source,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let counter = |name, help| {
        let counter = IntCounter::new(name, help).expect("a valid name");
        let registered = registry.register(Box::new(counter.clone()));
        registered.expect("a name of its own");
        counter
    };
    let dropped = counter(
        "engram_spans_dropped_total",
        "Spans that never reached the collector: the queue was full, or it did not take them.",
    );
    let (sender, queue) = mpsc::channel(QUEUE_SPANS_MAX);
    let (stopping, stop) = watch::channel(false);
    let processor = Queue {
        sender,
        dropped: dropped.clone(),
    };
    let sent = counter(
        "engram_spans_sent_total",
        "Spans that the collector has taken.",
    );
    let resource = ResourceAttributesWithSchema::from(&settings.resource());
    let address = address.clone();
    let thread = threads::spawn("engram-spans", move || {
        runtime.block_on(async {
            let channel = endpoint.connect_timeout(CONNECT_TIME).connect_lazy();
            let mut sending = Sending {
                address,
                client: TraceServiceClient::new(channel),
                resource,
                queue,
                batch: Vec::new(),
                stop: stop.clone(),
                sent,
                dropped: dropped.clone(),
                failing: false,
            };
            tokio::select! {
                () = sending.work() => {}
                () = late(stop) => {}
            }
            let left = sending.batch.len() + sending.queue.len();
            dropped.inc_by(left as u64);
        });
        // A name that is being looked up holds up no stop.
        runtime.shutdown_background();
    })?;
    Ok(Exporter {
        spans: Spans::new(settings, processor),
        stopping,
        thread,
    })
}

/// Resolves when whoever stops need not wait any longer.
async fn late(mut stop: watch::Receiver<bool>) {
    told(&mut stop).await;
    sleep(STOP_TIME).await;
}

/// Resolves when the member stops.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Nobody is left to tell of it: the same.
    let _ = stop.wait_for(|stopping| *stopping).await;
}

impl Exporter {
    /// What makes the spans that it sends.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Sends what is left, for a moment.
    pub fn stop(self) {
        self.stopping.send_replace(true);
        // A panic in it has ended the process.
        let _ = self.thread.join();
    }
}

struct Sending {
    address: String,
    client: TraceServiceClient<Channel>,
    resource: ResourceAttributesWithSchema,
    queue: mpsc::Receiver<SpanData>,
    /// What is being gathered or sent.
    batch: Vec<SpanData>,
    stop: watch::Receiver<bool>,
    sent: IntCounter,
    dropped: IntCounter,
    /// Whether the last batch was lost, which is told once.
    failing: bool,
}

impl Sending {
    /// Sends batches until it is told to stop and nothing is left.
    async fn work(&mut self) {
        loop {
            self.gather().await;
            if self.batch.is_empty() {
                return;
            }
            self.send().await;
            self.batch.clear();
        }
    }

    /// Waits for a batch. There is none once it is told to stop and nothing is left.
    async fn gather(&mut self) {
        let Sending {
            queue, batch, stop, ..
        } = self;
        tokio::select! {
            _ = queue.recv_many(batch, BATCH_SPANS_MAX) => {}
            () = told(stop) => {}
        }
        let filled = async {
            while batch.len() < BATCH_SPANS_MAX {
                if queue.recv_many(batch, BATCH_SPANS_MAX - batch.len()).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = filled => {}
            () = sleep(BATCH_DELAY) => {}
            () = told(stop) => {}
        }
        while batch.len() < BATCH_SPANS_MAX
            && let Ok(span) = queue.try_recv()
        {
            batch.push(span);
        }
    }

    async fn send(&mut self) {
        let spans = self.batch.len() as u64;
        for _ in 0..TRIES_MAX {
            let resource_spans =
                group_spans_by_resource_and_scope(self.batch.clone(), &self.resource);
            let request = ExportTraceServiceRequest { resource_spans };
            let sending = timeout(SEND_TIME, self.client.export(request));
            let late = || Err(Status::deadline_exceeded("no answer"));
            match sending.await.unwrap_or_else(|_| late()) {
                Ok(_) => {
                    self.sent.inc_by(spans);
                    self.tell(None);
                    return;
                }
                Err(status) => {
                    self.tell(Some(&status));
                    if !is_passing(status.code()) || *self.stop.borrow() {
                        break;
                    }
                }
            }
            tokio::select! {
                () = sleep(TRY_AGAIN_AFTER) => {}
                () = told(&mut self.stop) => {}
            }
        }
        self.dropped.inc_by(spans);
    }

    /// Tells how it goes, where that has changed.
    fn tell(&mut self, failed: Option<&Status>) {
        if self.failing == failed.is_some() {
            return;
        }
        self.failing = failed.is_some();
        let address = self.address.as_str();
        match failed {
            Some(status) => {
                log!(warn, "spans cannot be sent", address = address, error = %status);
            }
            None => log!(info, "spans are sent again", address = address),
        }
    }
}

/// Whether a collector may take later what it refuses now, as OpenTelemetry's protocol has it.
fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    )
}
