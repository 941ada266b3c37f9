//! How the API server is spoken to: a call that is not answered in time has failed, and a watch of which
//! nothing is heard is begun anew.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::DATE;
use hyper::{Request, Response};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower_layer::Layer;
use tower_service::Service;

use crate::clock;

/// How long a call may take, its answer's last byte included.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing may be heard of a watch: longer than the API server keeps one.
const WATCH_SILENCE: Duration = Duration::from_secs(360);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the API server is spoken to with.
#[derive(Clone)]
pub struct Clients {
    /// For calls: each is over within [`CALL_LIMIT`].
    pub calls: Client,
    /// For watches.
    pub watches: Client,
}

impl Clients {
    /// As the environment says: within a cluster by the account of the pod, else by a kubeconfig.
    ///
    /// # Errors
    /// It says nothing that can be used.
    pub async fn infer() -> Result<Self, BoxError> {
        let mut config = kube::Config::infer().await?;
        config.read_timeout = Some(WATCH_SILENCE);
        config.reset_reader_on_write = true;
        let calls = ClientBuilder::try_from(config.clone())?;
        Ok(Self {
            calls: calls.with_layer(&Bound(CALL_LIMIT)).build(),
            watches: Client::try_from(config)?,
        })
    }
}

/// Bounds every call in time. An answer is read whole: not for streams.
pub struct Bound(pub Duration);

impl<S> Layer<S> for Bound {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        let limit = self.0;
        Bounded { inner, limit }
    }
}

/// What is bounded.
pub struct Bounded<S> {
    inner: S,
    limit: Duration,
}

/// A call that took too long.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct Late(Duration);

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        let limit = self.limit;
        Box::pin(async move {
            let whole = async {
                let asked = Timestamp::now();
                let (head, body) = answer.await.map_err(Into::into)?.into_parts();
                let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
                if let Some(date) = date {
                    clock::heard(date, asked, Timestamp::now());
                }
                let body = body.collect().await.map_err(Into::into)?.to_bytes();
                Ok(Response::from_parts(head, Full::new(body)))
            };
            match tokio::time::timeout(limit, whole).await {
                Ok(answer) => answer,
                Err(_) => Err(Late(limit).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use k8s_openapi::api::core::v1::Secret;
    use kube::Api;

    use super::*;
    use crate::played::Played;

    #[tokio::test]
    async fn a_call_that_is_never_answered_fails_in_time() {
        let played = Played::default();
        played.hangs("/secrets/");
        let limit = Duration::from_millis(100);
        let client = Client::new(Bound(limit).layer(played), "data");
        let began = Instant::now();
        let secrets: Api<Secret> = Api::default_namespaced(client);
        let error = secrets.get("demo").await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(
            error.to_string().contains("no answer within 100ms"),
            "{error}"
        );
    }
}
