//! The spans of one call while it is under way.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;
use tonic::Code;

use super::Spans;
use super::attribute::within_bounds;

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// The call that the running task is at work for, where that has spans.
pub fn current() -> Option<Arc<Call>> {
    CALL.try_with(Arc::clone).ok()
}

/// Has the work of a call know it.
pub fn within<F: Future>(call: Arc<Call>, work: F) -> impl Future<Output = F::Output> {
    CALL.scope(call, work)
}

/// Has a piece of the work of a call know it.
pub fn within_now<R>(call: &Arc<Call>, work: impl FnOnce() -> R) -> R {
    CALL.sync_scope(Arc::clone(call), work)
}

/// A call that has a span. One that is dropped before it was ended was given up by its client.
pub struct Call {
    spans: Spans,
    /// Within its span.
    call: Context,
    /// Within what it asks of the core now, the innermost last.
    entered: Mutex<Vec<Context>>,
    ended: AtomicBool,
}

impl Call {
    pub(super) fn new(spans: Spans, call: Context) -> Call {
        Call {
            spans,
            call,
            entered: Mutex::new(Vec::new()),
            ended: AtomicBool::new(false),
        }
    }

    /// Begins a span that has nothing to do with what the call does meanwhile.
    pub fn child(&self, name: &'static str, attributes: Vec<KeyValue>) -> Child {
        Child(self.spans.child(name, attributes, &self.innermost()))
    }

    /// Begins the span of what the call asks of the core, within which the rest is until that ends.
    pub fn enter(self: &Arc<Self>, name: &'static str, attributes: Vec<KeyValue>) -> Box<Entered> {
        let child = self.child(name, attributes);
        self.entered.lock().push(child.0.clone());
        let call = Arc::clone(self);
        Box::new(Entered { call, child })
    }

    /// Something happens now, within the innermost span.
    pub fn event(&self, name: &'static str) {
        self.innermost().span().add_event(name, Vec::new());
    }

    /// It is answered so.
    pub fn end(&self, code: Code, message: &str) {
        if self.ended.swap(true, Relaxed) {
            return;
        }
        let span = self.call.span();
        if is_servers_fault(code) {
            span.set_status(Status::error(within_bounds(message.as_bytes())));
        }
        span.set_attribute(KeyValue::new("rpc.response.status_code", name(code)));
        span.end();
    }

    fn innermost(&self) -> Context {
        let entered = self.entered.lock();
        entered.last().unwrap_or(&self.call).clone()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled, "");
    }
}

/// A span, until this is dropped.
pub struct Child(Context);

impl Drop for Child {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// What a call asks of the core, until this is dropped.
pub struct Entered {
    call: Arc<Call>,
    child: Child,
}

impl Entered {
    /// Something more is known of it.
    pub fn set(&self, attribute: KeyValue) {
        self.child.0.span().set_attribute(attribute);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let own = self.child.0.span().span_context().span_id();
        let mut entered = self.call.entered.lock();
        entered.retain(|other| other.span().span_context().span_id() != own);
    }
}

/// Whether a span says that it failed: as OpenTelemetry has it for servers, not where the client asked for
/// what cannot be.
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A code's name in gRPC's documents.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
