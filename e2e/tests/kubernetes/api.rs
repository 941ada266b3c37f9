//! The apiserver's HTTP API, spoken through `kubectl proxy`: plain HTTP/1.0, one connection a
//! request, the answer ends where the connection does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longer than the apiserver itself waits for its datastore before it gives up on a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);

/// How a PATCH is meant, or that the body is a whole object.
#[derive(Clone, Copy)]
pub enum Body {
    Object,
    MergePatch,
    ApplyPatch,
}

impl Body {
    fn content_type(self) -> &'static str {
        match self {
            Body::Object => "application/json",
            Body::MergePatch => "application/merge-patch+json",
            // JSON is YAML.
            Body::ApplyPatch => "application/apply-patch+yaml",
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Null where the body is no JSON.
    pub body: Value,
}

impl Answer {
    /// The body, of an answer that has to be a success.
    pub fn ok(self, what: &str) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{what}: {} {}",
            self.status,
            self.body
        );
        self.body
    }
}

/// A server on a port of 127.0.0.1.
#[derive(Clone, Copy)]
pub struct Api {
    pub port: u16,
}

impl Api {
    /// One request and its answer. An error is one of the connection: what became of the request
    /// is then unknown.
    pub fn send(
        self,
        method: &str,
        path: &str,
        body: Option<(Body, &Value)>,
    ) -> io::Result<Answer> {
        let (status, mut reader) = self.open(method, path, body, ANSWER_TIMEOUT)?;
        let mut text = Vec::new();
        reader.read_to_end(&mut text)?;
        Ok(Answer {
            status,
            body: serde_json::from_slice(&text).unwrap_or(Value::Null),
        })
    }

    /// The same, where the connection must not fail.
    pub fn request(self, method: &str, path: &str, body: Option<(Body, &Value)>) -> Answer {
        self.send(method, path, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    pub fn get(self, path: &str) -> Value {
        self.request("GET", path, None).ok(path)
    }

    pub fn create(self, path: &str, object: &Value) -> Value {
        self.request("POST", path, Some((Body::Object, object)))
            .ok(path)
    }

    /// A page that is no JSON.
    pub fn text(self, path: &str) -> String {
        let read = || {
            let (status, mut reader) = self.open("GET", path, None, ANSWER_TIMEOUT)?;
            assert_eq!(status, 200, "{path}");
            let mut text = String::new();
            reader.read_to_string(&mut text)?;
            Ok::<_, io::Error>(text)
        };
        read().unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Whether `path` answers 200 at all.
    pub fn answers(self, path: &str) -> bool {
        self.send("GET", path, None)
            .is_ok_and(|answer| answer.status == 200)
    }

    /// Sends the request and reads the head of the answer. Reads after that give up after
    /// `read_timeout`.
    pub fn open(
        self,
        method: &str,
        path: &str,
        body: Option<(Body, &Value)>,
        read_timeout: Duration,
    ) -> io::Result<(u16, BufReader<TcpStream>)> {
        let (content_type, content) = match body {
            Some((kind, value)) => (kind.content_type(), value.to_string()),
            None => ("application/json", String::new()),
        };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let length = content.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + &content).as_bytes())?;
        let mut reader = BufReader::new(stream);
        let status = read_head(&mut reader)?;
        reader.get_ref().set_read_timeout(Some(read_timeout))?;
        Ok((status, reader))
    }
}

/// Reads up to the empty line, and returns the status code.
fn read_head(reader: &mut impl BufRead) -> io::Result<u16> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP status: {line:?}")))?;
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    Ok(status)
}

/// The objects of a list.
pub fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_else(|| panic!("no name: {object}"))
}

/// `metadata.resourceVersion`: with etcd's API as the datastore, the revision.
pub fn resource_version(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    let version = text.and_then(|text| text.parse().ok());
    version.unwrap_or_else(|| panic!("no resourceVersion: {object}"))
}
