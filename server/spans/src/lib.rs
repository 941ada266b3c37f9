//! Spans of calls, as OpenTelemetry's collectors take them (`--enable-distributed-tracing`): one a gRPC
//! call, and one within it for what the call asks of the core, under etcd's names, with its attributes.
//!
//! A caller's `traceparent` decides whether its call has spans; where there is none, the rate does. What
//! ends is put into a queue of a bounded length, and a thread sends it in batches.
//! Must never hold up a call: what the queue has no place for is dropped, and counted.
//!
//! Sources: etcd's `server/embed/config_tracing.go`, otelgrpc's `stats_handler.go`.

#![forbid(unsafe_code)]

mod attribute;
mod call;
mod export;
mod parent;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ::http::HeaderMap;
use opentelemetry::trace::{SpanBuilder, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanProcessor};

pub use attribute::{flag, number, text};
pub use call::{Call, Child, Entered, current, within, within_now};
pub use export::{Exporter, StartError, start};
pub use opentelemetry::KeyValue as Attribute;

/// Spans out of so many are what the rate counts.
const PER: f64 = 1_000_000.0;
/// Who makes a call's span, as what reads etcd's spans knows it.
const CALLS_SCOPE: &str =
    "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc";
/// The version of that whose names and attributes these are.
const CALLS_VERSION: &str = "0.68.0";
/// Who makes the spans within.
const CORE_SCOPE: &str = "go.etcd.io/etcd";

/// What the flags say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the collector listens, `host:port`.
    pub address: String,
    /// The service's name.
    pub service: String,
    /// This instance's id, if it has one.
    pub instance: Option<String>,
    /// Of a million calls that come without a `traceparent`, so many have spans.
    pub rate_per_million: u32,
}

impl Settings {
    /// Whose the spans are: `OTEL_RESOURCE_ATTRIBUTES`, and above it the flags.
    fn resource(&self) -> Resource {
        let name = KeyValue::new("service.name", self.service.clone());
        let instance = self.instance.clone();
        let instance = instance.map(|id| KeyValue::new("service.instance.id", id));
        Resource::builder_empty()
            .with_detector(Box::new(EnvResourceDetector::new()))
            .with_attributes([name].into_iter().chain(instance))
            .build()
    }

    fn sampler(&self) -> Sampler {
        let root = Sampler::TraceIdRatioBased(f64::from(self.rate_per_million) / PER);
        Sampler::ParentBased(Box::new(root))
    }
}

/// Makes the spans of calls. Clones share everything.
#[derive(Clone)]
pub struct Spans(Arc<Tracers>);

struct Tracers {
    calls: SdkTracer,
    core: SdkTracer,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spans")
    }
}

impl Spans {
    fn new(settings: &Settings, processor: impl SpanProcessor + 'static) -> Spans {
        let provider = SdkTracerProvider::builder()
            .with_sampler(settings.sampler())
            .with_span_processor(processor)
            .build();
        let calls = InstrumentationScope::builder(CALLS_SCOPE)
            .with_version(CALLS_VERSION)
            .build();
        let core = InstrumentationScope::builder(CORE_SCOPE).build();
        Spans(Arc::new(Tracers {
            calls: provider.tracer_with_scope(calls),
            core: provider.tracer_with_scope(core),
        }))
    }

    /// The span of a call that begins, if it has one. `path` is the call's, `/service/method`; `headers`
    /// may say whose call it is within; `server` is where it came in.
    pub fn begin(
        &self,
        path: &'static str,
        headers: &HeaderMap,
        server: Option<SocketAddr>,
    ) -> Option<Arc<Call>> {
        let name = path.strip_prefix('/').unwrap_or(path);
        let mut attributes = vec![
            KeyValue::new("rpc.method", name),
            KeyValue::new("rpc.system.name", "grpc"),
        ];
        if let Some(server) = server {
            let port = i64::from(server.port());
            attributes.push(KeyValue::new("server.address", server.ip().to_string()));
            attributes.push(KeyValue::new("server.port", port));
        }
        let around = match parent::of(headers) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes);
        let span = self.0.calls.build_with_context(builder, &around);
        let within = around.with_span(span);
        let sampled = within.span().is_recording();
        sampled.then(|| Arc::new(Call::new(self.clone(), within)))
    }

    fn child(&self, name: &'static str, attributes: Vec<KeyValue>, of: &Context) -> Context {
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Internal)
            .with_attributes(attributes);
        of.with_span(self.0.core.build_with_context(builder, of))
    }
}
