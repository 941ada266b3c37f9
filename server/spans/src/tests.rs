//! Which calls have spans, what they say, and that a queue that is full costs nobody anything.

use opentelemetry::trace::{SpanId, Status};
use opentelemetry_sdk::trace::SpanData;
use prometheus::IntCounter;
use tokio::sync::mpsc::{self, Receiver};
use tonic::Code;

use super::export::QUEUE_SPANS_MAX;
use super::queue::Queue;
use super::*;

const RANGE: &str = "/etcdserverpb.KV/Range";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

struct Made {
    spans: Spans,
    queue: Receiver<SpanData>,
    dropped: IntCounter,
}

fn make(rate_per_million: u32) -> Made {
    let settings = Settings {
        address: "127.0.0.1:1".into(),
        service: "etcd".into(),
        instance: Some("a".into()),
        rate_per_million,
    };
    let (sender, queue) = mpsc::channel(QUEUE_SPANS_MAX);
    let dropped = IntCounter::new("dropped", "spans").unwrap();
    let processor = Queue {
        sender,
        dropped: dropped.clone(),
    };
    Made {
        spans: Spans::new(&settings, processor),
        queue,
        dropped,
    }
}

fn headers(parent: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(parent) = parent {
        headers.insert("traceparent", parent.parse().unwrap());
    }
    headers
}

fn said(span: &SpanData, name: &str) -> Option<String> {
    let mut said = span.attributes.iter();
    let said = said.find(|said| said.key.as_str() == name)?;
    Some(said.value.to_string())
}

#[test]
fn the_caller_decides_and_else_the_rate() {
    for (rate, parent, has_spans) in [
        (1_000_000, None, true),
        (0, None, false),
        (0, Some(SAMPLED), true),
        (1_000_000, Some(NOT_SAMPLED), false),
        (1_000_000, Some("no parent"), true),
    ] {
        let made = make(rate);
        let call = made.spans.begin(RANGE, &headers(parent), None);
        assert_eq!(call.is_some(), has_spans, "{rate} {parent:?}");
    }
    let made = make(100_000);
    let count = (0..10_000).filter(|_| made.spans.begin(RANGE, &headers(None), None).is_some());
    let count = count.count();
    assert!(
        (700..1_300).contains(&count),
        "{count} of 10,000 at a tenth"
    );
}

#[tokio::test]
async fn a_call_and_what_it_asks_are_one_trace() {
    let mut made = make(0);
    let at = "127.0.0.1:2379".parse().unwrap();
    let headers = headers(Some(SAMPLED));
    let call = made.spans.begin(RANGE, &headers, Some(at)).unwrap();
    assert!(current().is_none());
    within(Arc::clone(&call), async {
        let call = current().expect("the call");
        let _asked = call.enter("range", vec![text("range_begin", b"k")]);
        call.event("Send raft proposal");
    })
    .await;
    call.end(Code::Unavailable, "etcdserver: no leader");
    let (inner, outer) = (
        made.queue.try_recv().unwrap(),
        made.queue.try_recv().unwrap(),
    );
    assert_eq!(outer.name, "etcdserverpb.KV/Range");
    assert_eq!(outer.span_kind, SpanKind::Server);
    assert_eq!(
        outer.parent_span_id,
        SpanId::from_hex("b7ad6b7169203331").unwrap()
    );
    assert_eq!(outer.status, Status::error("etcdserver: no leader"));
    assert_eq!(said(&outer, "rpc.method").unwrap(), "etcdserverpb.KV/Range");
    assert_eq!(
        said(&outer, "rpc.response.status_code").unwrap(),
        "UNAVAILABLE"
    );
    assert_eq!(said(&outer, "server.address").unwrap(), "127.0.0.1");
    assert_eq!(said(&outer, "server.port").unwrap(), "2379");
    assert_eq!(inner.name, "range");
    assert_eq!(inner.span_kind, SpanKind::Internal);
    assert_eq!(inner.parent_span_id, outer.span_context.span_id());
    assert_eq!(inner.span_context.trace_id(), outer.span_context.trace_id());
    assert_eq!(inner.events.len(), 1);
    assert!(made.queue.try_recv().is_err(), "each is sent once");
}

#[test]
fn a_call_that_is_given_up_is_cancelled() {
    let mut made = make(1_000_000);
    drop(made.spans.begin(RANGE, &headers(None), None));
    let span = made.queue.try_recv().unwrap();
    assert_eq!(
        said(&span, "rpc.response.status_code").unwrap(),
        "CANCELLED"
    );
    assert_eq!(span.status, Status::Unset);
}

#[test]
fn what_a_full_queue_cannot_take_is_dropped_and_counted() {
    let mut made = make(1_000_000);
    for _ in 0..QUEUE_SPANS_MAX + 7 {
        drop(made.spans.begin(RANGE, &headers(None), None));
    }
    assert_eq!(made.dropped.get(), 7);
    let queued = std::iter::from_fn(|| made.queue.try_recv().ok()).count();
    assert_eq!(queued, QUEUE_SPANS_MAX);
}
