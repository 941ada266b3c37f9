//! An OpenTelemetry collector: it takes spans over OTLP, and keeps them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use h2::server::SendResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use tokio::net::{TcpListener, TcpStream};
use tonic_prost::prost::Message as _;
use tonic_prost::prost::bytes::Bytes;

/// How long spans may take: they are sent every five seconds.
const PATIENCE: Duration = Duration::from_secs(30);
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// What comes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// One span, as it came.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Attributes of whose it is.
    pub resource: BTreeMap<String, String>,
    /// Who made it, and the version of that.
    pub scope: String,
    /// The span.
    pub span: Span,
}

/// A collector that listens. Dropped, it is gone.
pub struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("a port");
        let taken = Arc::default();
        runtime.spawn(listen(listener, Arc::clone(&taken)));
        Self {
            address,
            taken,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has taken once that is enough, or has taken long enough.
    pub fn taken_until(&self, enough: impl Fn(&[Taken]) -> bool) -> Vec<Taken> {
        let until = Instant::now() + PATIENCE;
        loop {
            let taken = self.taken.lock().expect("no panic").clone();
            if enough(&taken) || Instant::now() > until {
                return taken;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

async fn listen(listener: TcpListener, taken: Arc<Mutex<Vec<Taken>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&taken)));
    }
}

async fn serve(stream: TcpStream, taken: Arc<Mutex<Vec<Taken>>>) {
    let mut connection = h2::server::handshake(stream)
        .await
        .expect("HTTP/2 with knowledge before");
    // It ends with its exporter's process, in whatever way.
    while let Some(Ok((request, answer))) = connection.accept().await {
        assert_eq!(request.uri().path(), EXPORT);
        let taken = Arc::clone(&taken);
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut message = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                message.extend_from_slice(&data);
                let freed = body.flow_control().release_capacity(data.len());
                freed.expect("what was taken");
            }
            assert_eq!(message[0], 0, "not compressed");
            let request = ExportTraceServiceRequest::decode(&message[PREFIX..]);
            let spans = request.expect("an export").resource_spans;
            let mut taken = taken.lock().expect("no panic");
            taken.extend(spans.into_iter().flat_map(each));
            drop(taken);
            answer_well(answer);
        });
    }
}

fn answer_well(mut answer: SendResponse<Bytes>) {
    let head = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .expect("a head");
    // Whoever asked may have stopped.
    let Ok(mut body) = answer.send_response(head, false) else {
        return;
    };
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let _ = body.send_data(Bytes::from_static(&[0; PREFIX]), false);
    let _ = body.send_trailers(trailers);
}

fn each(spans: ResourceSpans) -> Vec<Taken> {
    let resource = spans.resource.map(|resource| resource.attributes);
    let resource = said(&resource.unwrap_or_default());
    let mut taken = Vec::new();
    for scoped in spans.scope_spans {
        let scope = scoped.scope.unwrap_or_default();
        let scope = format!("{} {}", scope.name, scope.version);
        taken.extend(scoped.spans.into_iter().map(|span| Taken {
            resource: resource.clone(),
            scope: scope.clone(),
            span,
        }));
    }
    taken
}

/// Attributes by their names, with their types.
pub fn said(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.clone()) {
        Some(any_value::Value::StringValue(text)) => format!("{text:?}"),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    let each = attributes.iter();
    each.map(|said| (said.key.clone(), text(&said.value)))
        .collect()
}
