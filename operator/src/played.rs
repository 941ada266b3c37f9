//! An API server that is played, for tests: objects in memory, with what of the real one's behaviour the
//! operator relies on (UIDs, versions and preconditions, finalizers, merges, label selectors). It may be asked
//! for what the operator's roles allow, and for nothing else.

pub mod members;
pub mod rights;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::apiserver::Clients;
use crate::pulse::Pulse;
use crate::reconcile;
use crate::settings::Settings;
use crate::telemetry::Metrics;

/// The server. Clones share it.
#[derive(Clone, Default)]
pub struct Played(Arc<Mutex<State>>, Arc<Notify>);

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code, and nothing is done.
    Refused(u16),
    /// The connection ends before it is read.
    Reset,
    /// It is done, and the connection ends before that is said.
    Unanswered,
}

impl Fault {
    /// All of them that a request of this method may meet.
    pub fn of(method: &Method) -> &'static [Self] {
        use Fault::{Refused, Reset, Unanswered};
        match *method {
            Method::GET => &[Refused(429), Refused(410), Refused(500), Reset],
            _ => &[
                Refused(429),
                Refused(409),
                Refused(500),
                Refused(503),
                Reset,
                Unanswered,
            ],
        }
    }
}

#[derive(Default)]
struct State {
    /// By path, such as `/api/v1/namespaces/data/pods/demo-1`.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Method and path with its query, in order.
    requests: Vec<(Method, String)>,
    /// Paths that have one of these in them are never answered.
    hanging: Vec<String>,
    /// Paths that begin with this are refused: nobody has a right to them.
    forbidden: Option<String>,
    /// So many requests are answered yet, and the next one is never: who asks is killed there.
    left: Option<usize>,
    /// So many requests are answered yet, then so many go wrong, and how.
    fault: Option<(usize, usize, Fault)>,
    /// The API server's clock, as its answers have it.
    date: Option<String>,
    /// Evictions are refused: a disruption budget.
    budget: bool,
    /// What has this in its path is not made, and why.
    refused: Option<(String, String)>,
    /// What has this in its path is not changed, and why.
    unchanged: Option<(String, String)>,
    /// What somebody else does just before the next request of this method whose path has this in it.
    meanwhile: Vec<(Method, String, Deed)>,
    /// So many requests are answered yet, and then somebody else does this.
    later: Option<(usize, Deed)>,
}

/// What somebody else does.
type Deed = Box<dyn FnOnce(&Played) + Send>;

/// How a patch changes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patch {
    /// It is applied: who applies it has said all that it wants.
    Apply,
    /// It is merged.
    Merge,
}

impl Played {
    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "data")
    }

    /// What a pass against it works with: settings as nobody has set them.
    pub fn context(&self) -> reconcile::Context {
        let clients = Clients {
            calls: self.client(),
            watches: self.client(),
        };
        let settings = Settings::parse(std::iter::empty(), |_| None).expect("nothing is set");
        let metrics = Metrics::new().expect("each name is there once");
        reconcile::Context::new(clients, settings, metrics, Pulse::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has requests of such a path never answered.
    pub fn hangs(&self, part: &str) {
        self.state().hanging.push(part.to_owned());
    }

    /// Has requests of paths that begin so refused, as where the operator has no right to them.
    pub fn forbids(&self, path: &str) {
        self.state().forbidden = Some(path.to_owned());
    }

    /// Has whoever asks be killed when so many more requests were answered, before the next one; or nobody.
    pub fn kills_after(&self, requests: Option<usize>) {
        self.state().left = requests;
    }

    /// Has so many requests go wrong, after so many more that were answered.
    pub fn goes_wrong(&self, after: usize, many: usize, fault: Fault) {
        self.state().fault = Some((after, many, fault));
    }

    /// Whether all that was to go wrong has.
    pub fn went_wrong(&self) -> bool {
        self.state().fault.is_none()
    }

    /// Has its answers say that it is this time.
    pub fn dates(&self, date: &str) {
        self.state().date = Some(date.to_owned());
    }

    /// Returns once somebody has to be killed.
    pub async fn kills(&self) {
        loop {
            self.1.notified().await;
            // One who was killed may have asked for several things at once.
            if self.state().left == Some(0) {
                return;
            }
        }
    }

    /// Another server, on which the same is there.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copied = State {
            objects: state.objects.clone(),
            version: state.version,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(copied)), Arc::default())
    }

    /// All that is there, by path.
    pub fn all(&self) -> BTreeMap<String, Value> {
        self.state().objects.clone()
    }

    /// Has evictions refused from now on, or not.
    pub fn budget(&self, refuses: bool) {
        self.state().budget = refuses;
    }

    /// Has somebody else do this just before the next request of this method is answered whose path has this in it.
    pub fn meanwhile(&self, method: Method, part: &str, what: impl FnOnce(&Self) + Send + 'static) {
        let one = (method, part.to_owned(), Box::new(what) as Deed);
        self.state().meanwhile.push(one);
    }

    /// Has somebody else do this once so many more requests were answered.
    pub fn after(&self, requests: usize, what: impl FnOnce(&Self) + Send + 'static) {
        self.state().later = Some((requests, Box::new(what)));
    }

    /// Has everybody do what they do before this request is answered.
    fn let_others_act(&self, method: &Method, path: &str) {
        let mut deeds = Vec::new();
        {
            let mut state = self.state();
            match state.later.take() {
                Some((0, deed)) => deeds.push(deed),
                Some((left, deed)) => state.later = Some((left - 1, deed)),
                None => {}
            }
            let (now, yet): (Vec<_>, Vec<_>) = std::mem::take(&mut state.meanwhile)
                .into_iter()
                .partition(|(of, part, _)| of == method && path.contains(part));
            state.meanwhile = yet;
            deeds.extend(now.into_iter().map(|(_, _, deed)| deed));
        }
        for deed in deeds {
            deed(self);
        }
    }

    /// Has a namespace be deleted: nothing is made in it any more.
    pub fn goes(&self, namespace: &str) {
        let words = "unable to create new content in namespace because it is being terminated";
        self.refuses_to_make(&format!("/namespaces/{namespace}/"), words);
    }

    /// Refuses, in these words, to make what has this in its path: a quota, a policy.
    pub fn refuses_to_make(&self, part: &str, words: &str) {
        self.state().refused = Some((part.to_owned(), words.to_owned()));
    }

    /// Makes everything again.
    pub fn makes_all(&self) {
        self.state().refused = None;
    }

    /// Refuses, in these words, to change what has this in its path: a policy, or what it is.
    pub fn refuses_to_change(&self, part: &str, words: &str) {
        self.state().unchanged = Some((part.to_owned(), words.to_owned()));
    }

    /// Changes everything again.
    pub fn changes_all(&self) {
        self.state().unchanged = None;
    }

    /// Puts an object there, as if a user or another controller had.
    pub fn put(&self, path: &str, object: Value) {
        let mut state = self.state();
        let object = state.dressed(path, object);
        state.objects.insert(path.to_owned(), object);
    }

    /// Takes one away.
    pub fn remove(&self, path: &str) -> Option<Value> {
        self.state().objects.remove(path)
    }

    /// An object as it is.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// Changes an object, as if a user or another controller had.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.object(path).expect("it is there");
        change(&mut object);
        self.put(path, object);
    }

    /// Has an object be deleted that finalizers hold yet.
    pub fn deletes(&self, path: &str) {
        let when = json!("2026-01-01T00:00:00Z");
        self.change(path, |object| {
            object["metadata"]["deletionTimestamp"] = when
        });
    }

    /// The notes of the events of this reason.
    pub fn notes(&self, reason: &str) -> Vec<String> {
        let events = self.paths("/events/").into_iter();
        let events = events.filter_map(|path| self.object(&path));
        let events = events.filter(|event| event["reason"] == reason);
        events.map(|event| event["note"].to_string()).collect()
    }

    /// The paths of all objects that have this in them.
    pub fn paths(&self, part: &str) -> Vec<String> {
        let state = self.state();
        let paths = state.objects.keys().filter(|path| path.contains(part));
        paths.cloned().collect()
    }

    /// How often it was asked since the last time.
    pub fn asked(&self) -> usize {
        self.state().requests.len()
    }

    /// What was asked since the last time.
    pub fn requests(&self) -> Vec<(Method, String)> {
        std::mem::take(&mut self.state().requests)
    }
}

impl State {
    /// What goes wrong with the next request.
    fn next_fault(&mut self) -> Option<Fault> {
        let (after, many, fault) = self.fault.take()?;
        self.fault = match (after, many) {
            (0, 0) => None,
            (0, many) => (many > 1).then_some((0, many - 1, fault)),
            (after, many) => Some((after - 1, many, fault)),
        };
        (after == 0 && many > 0).then_some(fault)
    }

    fn dressed(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let name = path.rsplit('/').next().unwrap_or_default();
        let mut segments = path.split('/').skip_while(|one| *one != "namespaces");
        let namespace = segments.nth(1);
        let meta = &mut object["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("{:08x}-0000-4000-8000-000000000000", self.version));
            // What a test says of its age counts.
            for (key, value) in [
                ("creationTimestamp", json!("2026-01-01T00:00:00Z")),
                ("generation", json!(1)),
            ] {
                if meta[key].is_null() {
                    meta[key] = value;
                }
            }
        }
        meta["name"] = json!(name);
        if let Some(namespace) = namespace {
            meta["namespace"] = json!(namespace);
        }
        meta["resourceVersion"] = json!(self.version.to_string());
        object
    }

    fn answer(
        &mut self,
        (method, path): (&Method, &str),
        query: &str,
        patch: Patch,
        body: &Value,
    ) -> (u16, Value) {
        let forbidden = self.forbidden.as_ref();
        if forbidden.is_some_and(|begins| path.starts_with(begins)) {
            return refusal(403, "Forbidden", path);
        }
        let (target, sub) = split(path);
        let applies = method == Method::PATCH && patch == Patch::Apply;
        let makes = applies && sub.is_none() && !self.objects.contains_key(target);
        rights::must_allow(method, path, makes);
        if is_collection(target) {
            return match *method {
                Method::GET => (200, self.list(target, query)),
                Method::POST => self.create(target, body),
                _ => refusal(405, "MethodNotAllowed", path),
            };
        }
        match (method.as_str(), sub) {
            ("POST", Some("eviction")) if self.budget => {
                refusal(429, "TooManyRequests", "it would violate the budget")
            }
            ("POST", Some("eviction")) => match self.delete(target, &body["deleteOptions"]) {
                (200, _) => (
                    201,
                    json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201 }),
                ),
                refused => refused,
            },
            ("GET", _) => match self.objects.get(target) {
                Some(object) => (200, object.clone()),
                None => refusal(404, "NotFound", path),
            },
            ("PATCH", _) => self.patch(target, sub, patch, body),
            ("PUT", _) => {
                let found = self.objects.get(target).unwrap_or(&Value::Null);
                if !holds(&found["metadata"], &body["metadata"]) {
                    return refusal(409, "Conflict", path);
                }
                let object = self.dressed(target, body.clone());
                self.objects.insert(target.to_owned(), object.clone());
                (200, object)
            }
            ("DELETE", _) => self.delete(target, body),
            _ => refusal(405, "MethodNotAllowed", path),
        }
    }

    fn list(&self, collection: &str, query: &str) -> Value {
        let selector = query
            .split('&')
            .find_map(|one| one.strip_prefix("labelSelector="));
        let selector = selector
            .unwrap_or_default()
            .replace("%3D", "=")
            .replace("%2C", ",");
        let selector = selector.replace("%2F", "/");
        let within = format!("{collection}/");
        let chosen = |object: &&Value| {
            let mut pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
            pairs.all(|(key, value)| object["metadata"]["labels"][key] == value)
        };
        let all = self
            .objects
            .iter()
            .filter(|(path, _)| path.starts_with(&within));
        let items: Vec<&Value> = all.map(|(_, object)| object).filter(chosen).collect();
        json!({ "metadata": { "resourceVersion": self.version.to_string() }, "items": items })
    }

    fn create(&mut self, collection: &str, body: &Value) -> (u16, Value) {
        let name = body["metadata"]["name"].as_str().unwrap_or("generated");
        let path = format!("{collection}/{name}");
        if let Some((part, words)) = &self.refused
            && path.contains(part)
        {
            return refusal(403, "Forbidden", words);
        }
        if self.objects.contains_key(&path) {
            return refusal(409, "AlreadyExists", &path);
        }
        let object = self.dressed(&path, body.clone());
        self.objects.insert(path, object.clone());
        (201, object)
    }

    fn patch(&mut self, path: &str, sub: Option<&str>, patch: Patch, body: &Value) -> (u16, Value) {
        if let Some((part, words)) = &self.unchanged
            && path.contains(part)
        {
            return refusal(403, "Forbidden", words);
        }
        let makes = patch == Patch::Apply && sub.is_none();
        let before = self.objects.get(path).cloned();
        if makes && before.is_none() && !body["metadata"]["uid"].is_null() {
            return refusal(409, "Conflict", path);
        }
        let Some(mut object) = before.or_else(|| makes.then(|| json!({}))) else {
            return refusal(404, "NotFound", path);
        };
        if !holds(&object["metadata"], &body["metadata"]) {
            return refusal(409, "Conflict", path);
        }
        let spec = object["spec"].clone();
        match (sub, patch) {
            (Some("status"), Patch::Apply) => object["status"] = body["status"].clone(),
            (Some("status"), Patch::Merge) => merge(&mut object["status"], &body["status"]),
            _ => merge(&mut object, body),
        }
        if let Some(generation) = object["metadata"]["generation"].as_i64()
            && object["spec"] != spec
        {
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let object = self.dressed(path, object);
        let meta = &object["metadata"];
        let finalizers = meta["finalizers"].as_array().map_or(0, Vec::len);
        match !meta["deletionTimestamp"].is_null() && finalizers == 0 {
            true => self.objects.remove(path),
            false => self.objects.insert(path.to_owned(), object.clone()),
        };
        (200, object)
    }

    fn delete(&mut self, path: &str, options: &Value) -> (u16, Value) {
        let Some(mut object) = self.objects.get(path).cloned() else {
            return refusal(404, "NotFound", path);
        };
        if !holds(&object["metadata"], &options["preconditions"]) {
            return refusal(409, "Conflict", path);
        }
        let finalizers = object["metadata"]["finalizers"]
            .as_array()
            .map_or(0, Vec::len);
        if finalizers == 0 {
            self.objects.remove(path);
        } else {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.objects.insert(path.to_owned(), object.clone());
        }
        (200, object)
    }
}

/// Whether a UID and a version that are asked for are the object's; a new one has none.
fn holds(meta: &Value, wanted: &Value) -> bool {
    ["uid", "resourceVersion"]
        .iter()
        .all(|key| wanted[key].is_null() || meta[key].is_null() || wanted[key] == meta[key])
}

/// An object's path and its subresource.
fn split(path: &str) -> (&str, Option<&str>) {
    for sub in ["status", "eviction"] {
        if let Some(rest) = path.strip_suffix(&format!("/{sub}")) {
            return (rest, Some(sub));
        }
    }
    (path, None)
}

fn is_collection(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let skip = if segments[0] == "api" { 2 } else { 3 };
    let rest = &segments[skip.min(segments.len())..];
    match rest.first() {
        Some(&"namespaces") if rest.len() > 2 => rest.len() == 3,
        _ => rest.len() == 1,
    }
}

/// As a JSON merge patch.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        match value {
            Value::Null => drop(object.as_object_mut().map(|all| all.remove(key))),
            value => merge(&mut object[key], value),
        }
    }
}

/// What the API server says where it cannot do what it would do otherwise.
fn refused(code: u16) -> (u16, Value) {
    let (reason, message) = match code {
        409 => (
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        ),
        410 => ("Expired", "too old resource version"),
        429 => (
            "TooManyRequests",
            "too many requests, please try again later",
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        _ => (
            "InternalError",
            "an error on the server has prevented the request from succeeding",
        ),
    };
    refusal(code, reason, message)
}

fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": code, "message": message,
    });
    (code, status)
}

impl tower_service::Service<Request<Body>> for Played {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes);
            let body = body.unwrap_or_default();
            let path = head.uri.path().to_owned();
            let query = head.uri.query().unwrap_or_default().to_owned();
            let kind = head.headers.get(hyper::header::CONTENT_TYPE);
            let patch = match kind.is_some_and(|kind| kind == "application/apply-patch+yaml") {
                true => Patch::Apply,
                false => Patch::Merge,
            };
            let (hangs, fault) = {
                let mut state = this.state();
                state
                    .requests
                    .push((head.method.clone(), format!("{path}?{query}")));
                let killed = state.left == Some(0);
                state.left = state.left.map(|left| left.saturating_sub(1));
                if killed {
                    this.1.notify_one();
                }
                let hangs = killed || state.hanging.iter().any(|part| path.contains(part));
                (hangs, state.next_fault())
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            this.let_others_act(&head.method, &path);
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
            let (code, answer) = match fault {
                Some(Fault::Reset) => return Err(reset()),
                Some(Fault::Refused(code)) => refused(code),
                Some(Fault::Unanswered) | None => {
                    let mut state = this.state();
                    state.answer((&head.method, &path), &query, patch, &body)
                }
            };
            if fault == Some(Fault::Unanswered) {
                return Err(reset());
            }
            let mut response = Response::builder()
                .status(code)
                .header("content-type", "application/json");
            if matches!(code, 429 | 503) {
                response = response.header("retry-after", "1");
            }
            if let Some(date) = &this.state().date {
                response = response.header("date", date);
            }
            let response = response.body(Full::new(Bytes::from(answer.to_string())));
            Ok(response.expect("an answer"))
        })
    }
}
