//! As much of HTTP/1.1 as a client of a cloud speaks: one request after the other on a connection.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::TcpStream;

/// One request.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    /// Without its query; percent signs decoded.
    pub path: String,
    pub query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn asked(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    /// What stands behind the status: Azure's own words.
    reason: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            reason: "Said".into(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// As a part of another one.
    pub fn within(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, self.reason);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n" + &String::from_utf8_lossy(&self.body)
    }

    pub fn because(mut self, reason: &str) -> Answer {
        reason.clone_into(&mut self.reason);
        self
    }

    pub fn with(mut self, name: &'static str, value: String) -> Answer {
        self.headers.push((name, value));
        self
    }
}

/// Answers what comes over a connection until it ends.
pub fn serve(stream: TcpStream, answer: impl Fn(&Request) -> Answer) {
    let Ok(mut out) = stream.try_clone() else {
        return;
    };
    let mut from = BufReader::new(stream);
    while let Some(request) = read(&mut from) {
        let answer = answer(&request);
        let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, answer.reason);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        // Some answers are 204s, which have neither.
        if answer.status != 204 {
            head += &format!("content-length: {}\r\n", answer.body.len());
        }
        head += "\r\n";
        let body: &[u8] = match request.method.as_str() {
            "HEAD" => &[],
            _ => &answer.body,
        };
        if out.write_all(&[head.as_bytes(), body].concat()).is_err() {
            return;
        }
    }
}

/// The next request; none at the connection's end.
pub fn read(from: &mut impl std::io::BufRead) -> Option<Request> {
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request {
        method,
        path: decoded(path),
        ..Request::default()
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        request
            .query
            .insert(decoded(name), decoded(&value.replace('+', " ")));
    }
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        request.headers.insert(name, value);
    }
    let length = request
        .header("content-length")
        .map_or("0", |length| length);
    let mut body = vec![0; length.parse().ok()?];
    from.read_exact(&mut body).ok()?;
    request.body = body;
    Some(request)
}

fn decoded(raw: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = raw.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match byte {
            Some(_) => &behind[2..],
            None => behind,
        };
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
