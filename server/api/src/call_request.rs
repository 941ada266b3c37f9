//! A call's request on its way through the edge.

use http::request::Parts;
use http::{HeaderMap, Request};

/// A request, its head apart from its body. It is handed on in a box: the futures of a call are made one
/// inside the other, and each would hold, and copy, the quarter of a kilobyte that a head is.
pub(super) struct CallRequest<R> {
    pub(super) head: Parts,
    pub(super) body: R,
}

impl<R> CallRequest<R> {
    pub(super) fn new(request: Request<R>) -> Box<CallRequest<R>> {
        let (head, body) = request.into_parts();
        Box::new(CallRequest { head, body })
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Which call it asks for. A query is part of it, as it is to etcd, which knows no call of that name.
    pub(super) fn path(&self) -> &str {
        let asked = self.head.uri.path_and_query();
        asked.map_or("", |asked| asked.as_str())
    }

    pub(super) fn map<T>(self, of: impl FnOnce(R) -> T) -> Request<T> {
        Request::from_parts(self.head, of(self.body))
    }
}
