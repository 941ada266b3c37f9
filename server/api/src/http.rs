//! What answers plain HTTP on the client port: health, readiness, metrics, version.

use std::collections::BTreeSet;
use std::fmt::Write;

use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use tonic::body::Body;

use super::backend::Backend;
use super::error::Refusal;
use super::{Edge, compression, profiles};
use crate::config::ETCD_VERSION;
use crate::log;
use crate::threads;
use crate::types::request::{AlarmType, Range};
use crate::types::result::Alarm;
use crate::types::{KeyRange, Revision};

/// Every check of `/livez` and `/readyz`.
pub(super) const CHECKS: &[(&str, &str)] = &[
    // First: where a thread is stuck, a read may never come back.
    ("livez", "threads"),
    ("livez", "serializable_read"),
    ("readyz", "data_corruption"),
    ("readyz", "serializable_read"),
    ("readyz", "linearizable_read"),
    ("readyz", "non_learner"),
    ("readyz", "disk_space"),
];

pub(super) const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const JSON_TEXT: &str = "application/json; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

impl<B: Backend> Edge<B> {
    /// Answers a request that is not gRPC. With `metrics_only`, what `--listen-metrics-urls` serve.
    pub(super) async fn http(&self, request: &Parts, metrics_only: bool) -> Response<Body> {
        let path = request.uri.path();
        let known = match path {
            "/health" | "/metrics" | "/livez" | "/readyz" => true,
            "/version" | "/debug/vars" => !metrics_only,
            _ if profiles::answers(path) => self.config().profiles && !metrics_only,
            _ => sub_check(path).is_some(),
        };
        if !known {
            return error(StatusCode::NOT_FOUND, "404 page not found");
        }
        // As Go's handlers: metrics and profiles take any method.
        let of_any_method = path == "/metrics" || profiles::answers(path);
        if request.method != Method::GET && !of_any_method {
            match path {
                "/health" => log!(warn, "/health error", "status-code" = 405),
                "/version" | "/debug/vars" => {}
                _ => log!(
                    warn,
                    "Health request error",
                    path = path,
                    "status-code" = 405
                ),
            }
            let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        let query = Query::parse(request.uri.query().unwrap_or_default());
        match path {
            "/health" => self.health(&query).await,
            "/metrics" => self.metrics_page(&request.headers).await,
            "/version" => self.version(),
            "/debug/vars" => page(StatusCode::OK, JSON_TEXT, self.variables()),
            _ if profiles::answers(path) => profiles::answer(path, &query).await,
            "/livez" | "/readyz" => {
                let of = path.trim_start_matches('/');
                let excluded = query.all("exclude");
                let wanted = |check: &&(&str, &str)| check.0 == of && !excluded.contains(check.1);
                let checks: Vec<_> = CHECKS.iter().filter(wanted).copied().collect();
                self.checks(path, &checks, &query).await
            }
            _ => {
                let check = sub_check(path).expect("found above");
                self.checks(path, &[check], &query).await
            }
        }
    }

    async fn metrics_page(&self, headers: &HeaderMap) -> Response<Body> {
        let _scrape = self.metrics().scrape();
        let mut text = self.backend().metrics_text();
        self.metrics().render(&mut text);
        if !compression::takes_gzip(headers) {
            return page(StatusCode::OK, METRICS, text);
        }
        // Milliseconds, which calls on this thread need not wait for.
        let compressed = threads::spawn_blocking(move || compression::gzip(text.as_bytes()));
        let Ok(compressed) = compressed.await else {
            return panicked();
        };
        let mut answer = page(StatusCode::OK, METRICS, compressed);
        let gzip = HeaderValue::from_static("gzip");
        answer.headers_mut().insert(CONTENT_ENCODING, gzip);
        answer
    }

    fn version(&self) -> Response<Body> {
        let cluster = self.backend().cluster_version();
        let cluster = cluster.as_deref().unwrap_or("not_decided");
        let storage = self.storage_version();
        let storage = storage.as_deref().unwrap_or("unknown");
        // Written by hand: scripts cut the first version out of the text, so the order of the fields
        // counts. A version is digits and dots.
        let text = format!(
            "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}"
        );
        page(StatusCode::OK, JSON, text)
    }

    async fn health(&self, query: &Query<'_>) -> Response<Body> {
        let serializable = query.first("serializable") == Some("true");
        let reason = self.sickness(&query.all("exclude"), serializable).await;
        self.metrics().health(reason.is_none());
        let health = if reason.is_none() { "true" } else { "false" };
        let reason = reason.unwrap_or_default();
        let reason = serde_json::Value::from(reason);
        // Written by hand: etcd's probes compare the text, so the order of the fields counts.
        let text = format!("{{\"health\":\"{health}\",\"reason\":{reason}}}");
        if health == "true" {
            log!(debug, "/health OK", "status-code" = 200);
            return page(StatusCode::OK, PLAIN, text);
        }
        log!(
            warn,
            "/health error",
            output = text.as_str(),
            "status-code" = 503
        );
        error(StatusCode::SERVICE_UNAVAILABLE, &text)
    }

    /// Why the member is not healthy, where it is not.
    async fn sickness(&self, excluded: &BTreeSet<&str>, serializable: bool) -> Option<String> {
        if let Some(stuck) = threads::stuck() {
            return Some(format!("STUCK {stuck}"));
        }
        // NOSPACE is the cluster's. CORRUPT is of the member it names: the others go on.
        let counts = |alarm: &&Alarm| alarm.alarm != AlarmType::Corrupt || self.is_own(alarm);
        let is_told = |alarm: &&Alarm| !excluded.contains(alarm.alarm.name());
        let alarms = self.backend().alarms();
        if let Some(alarm) = alarms.iter().filter(counts).find(is_told) {
            let name = alarm.alarm.name();
            log!(
                warn,
                "serving /health false due to an alarm",
                alarm = format!("memberID:{} alarm:{name}", alarm.member.0)
            );
            return Some(format!("ALARM {name}"));
        }
        match self.try_read(serializable).await {
            Ok(_) => {
                log!(debug, "serving /health true");
                None
            }
            Err(refusal) if refusal == Refusal::NO_LEADER => {
                log!(warn, "serving /health false; no leader");
                Some("RAFT NO LEADER".into())
            }
            Err(refusal) => {
                log!(warn, "serving /health false; Range fails", error = %refusal);
                Some(format!("RANGE ERROR:{refusal}"))
            }
        }
    }

    /// A read as a client would make it; but where nobody leads, that is said at once.
    async fn try_read(&self, serializable: bool) -> Result<Revision, Refusal> {
        if !serializable {
            tokio::select! {
                biased;
                () = self.backend().leader_lost() => return Err(Refusal::NO_LEADER),
                passed = self.backend().read_barrier() => passed?,
            }
        }
        let key = KeyRange::single(bytes::Bytes::from_static(b"\0"));
        let query = Range {
            limit: 1,
            keys_only: true,
            ..Range::all(key)
        };
        Ok(self.backend().range(&query).await?.head)
    }

    async fn checks(
        &self,
        path: &str,
        checks: &[(&str, &str)],
        query: &Query<'_>,
    ) -> Response<Body> {
        let mut report = String::new();
        let mut well = true;
        for (of, name) in checks {
            let failure = self.failure(name).await;
            self.metrics().checked(of, name, failure.is_none());
            well &= failure.is_none();
            let line = match &failure {
                None => writeln!(report, "[+]{name} ok{}", remark(name)),
                Some(reason) => writeln!(report, "[-]{name} failed: {reason}"),
            };
            line.expect("a string takes what is written to it");
            if *name == "threads" && failure.is_some() {
                break;
            }
        }
        if !well {
            log!(
                error,
                "Health check error",
                path = path,
                reason = report.as_str(),
                "status-code" = 503
            );
            return error(StatusCode::SERVICE_UNAVAILABLE, &report);
        }
        log!(
            debug,
            "Health check OK",
            path = path,
            reason = report.as_str(),
            "status-code" = 200
        );
        let report = if query.first("verbose").is_some() {
            report
        } else {
            String::new()
        };
        let mut answer = page(StatusCode::OK, PLAIN, report + "ok\n");
        no_sniffing(&mut answer);
        answer
    }

    /// Whether the alarm is raised for this member.
    fn is_own(&self, alarm: &Alarm) -> bool {
        alarm.member == self.backend().header().member
    }

    async fn failure(&self, check: &str) -> Option<String> {
        match check {
            "data_corruption" => {
                let alarms = self.backend().alarms();
                let corrupt =
                    |alarm: &Alarm| alarm.alarm == AlarmType::Corrupt && self.is_own(alarm);
                let corrupt = alarms.iter().any(corrupt);
                corrupt.then(|| "alarm activated: CORRUPT".into())
            }
            "threads" => threads::stuck(),
            "non_learner" => self
                .backend()
                .is_learner()
                .then(|| "not supported for learner".into()),
            "disk_space" => self
                .backend()
                .is_short_of_room()
                .then(|| "this member's disk is short of room".into()),
            read => {
                let tried = self.try_read(read == "serializable_read").await;
                // A member whose data is wrong refuses reads, and lives: starting it again would
                // not help, and its operator needs it. That it is not ready is another check's to say.
                let alive =
                    |refusal: &Refusal| read == "serializable_read" && *refusal == Refusal::CORRUPT;
                let failed = tried.err().filter(|refusal| !alive(refusal));
                // etcd's text of a read whose leader was lost meanwhile; where there was none to begin with
                // it is silent until its time is over.
                let told = failed.map(|refusal| match refusal == Refusal::NO_LEADER {
                    true => Refusal::LEADER_CHANGED,
                    false => refusal,
                });
                told.map(|refusal| refusal.to_string())
            }
        }
    }
}

/// What a check that passes has to say all the same.
fn remark(check: &str) -> String {
    let slow = match check {
        "threads" => threads::slow_disk(),
        _ => Vec::new(),
    };
    slow.iter().map(|text| format!(": {text}")).collect()
}

/// The answer of a request whose work panicked.
pub(super) fn panicked() -> Response<Body> {
    error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the server's log says what went wrong",
    )
}

/// The check that a path such as `/readyz/linearizable_read` names.
fn sub_check(path: &str) -> Option<(&'static str, &'static str)> {
    let (of, name) = path.strip_prefix('/')?.split_once('/')?;
    CHECKS.iter().copied().find(|check| *check == (of, name))
}

pub(super) fn page(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let body = http_body_util::Full::new(text.into());
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A page for people.
pub(super) fn html(text: &str) -> Response<Body> {
    page(StatusCode::OK, "text/html; charset=utf-8", text.to_owned())
}

/// As Go's `http.Error`.
pub(super) fn error(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = page(status, PLAIN, format!("{text}\n"));
    no_sniffing(&mut response);
    response
}

/// The answer of a listener that has gRPC alone. etcd's ends the connection.
pub(super) fn only_grpc() -> Response<Body> {
    let mut refused = error(StatusCode::NOT_FOUND, "404 page not found");
    let close = HeaderValue::from_static("close");
    refused
        .headers_mut()
        .insert(http::header::CONNECTION, close);
    refused
}

pub(super) fn no_sniffing(response: &mut Response<Body>) {
    let value = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, value);
}

/// A URL's query. None of the values known here needs unescaping.
pub(super) struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Query<'a> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect(),
        )
    }

    pub(super) fn first(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|pair| pair.0 == name).map(|pair| pair.1)
    }

    fn all(&self, name: &str) -> BTreeSet<&'a str> {
        let named = self.0.iter().filter(|pair| pair.0 == name);
        named
            .map(|pair| pair.1)
            .filter(|value| !value.is_empty())
            .collect()
    }
}
