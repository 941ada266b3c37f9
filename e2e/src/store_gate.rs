//! A gate before a store of objects that fails as networks and services do, at requests that a seed chooses.
//!
//! It takes one request a connection, so that a fault meets exactly one: it is read, passed on, and its answer
//! passed back. Below TLS it would see nothing: it stands before a store that is spoken to in plain HTTP.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::random::Random;

/// How long nobody may say anything.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// The largest head of a request.
const HEAD_MAX: usize = 64 << 10;
/// Of so many requests one meets a fault, while there are faults left.
const ONE_IN: u64 = 3;
const BUSY: &[u8] = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BROKEN: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before anything was read.
    Refused,
    /// The store says that it is busy.
    Busy,
    /// The store says that something is wrong with it.
    Broken,
    /// So many thousandths of the body reach the store, and then both connections end.
    Cut(u64),
    /// The store does what was asked, and nobody hears of it.
    Unanswered,
    /// So many thousandths of the answer arrive.
    CutAnswer(u64),
    /// The request stands still before it is passed on.
    Slow(Duration),
}

impl Fault {
    fn drawn(random: &mut Random) -> Fault {
        match random.below(7) {
            0 => Fault::Refused,
            1 => Fault::Busy,
            2 => Fault::Broken,
            3 => Fault::Cut(random.below(1000)),
            4 => Fault::Unanswered,
            5 => Fault::CutAnswer(random.below(1000)),
            _ => Fault::Slow(Duration::from_millis(200 + random.below(1_300))),
        }
    }
}

struct Planned {
    random: Random,
    left: usize,
    done: Vec<(Fault, String)>,
}

/// See the module. Its thread ends with the process.
#[derive(Clone)]
pub struct StoreGate {
    address: SocketAddr,
    planned: Arc<Mutex<Planned>>,
}

impl StoreGate {
    /// Opens one before a store that listens there. Everything passes at first.
    ///
    /// # Panics
    /// If no port is to be had.
    pub fn before(store: SocketAddr) -> StoreGate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gate = StoreGate {
            address: listener.local_addr().expect("it is bound"),
            planned: Arc::new(Mutex::new(Planned {
                random: Random::new(0),
                left: 0,
                done: Vec::new(),
            })),
        };
        let this = gate.clone();
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let this = this.clone();
                // A connection that ends is what this is about.
                thread::spawn(move || drop(this.serve(caller, store)));
            }
        });
        gate
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// So many of the next requests meet a fault.
    pub fn fail(&self, seed: u64, faults: usize) {
        let mut planned = self.planned();
        planned.random = Random::new(seed);
        planned.left = faults;
    }

    /// How many faults are still to come.
    pub fn left(&self) -> usize {
        self.planned().left
    }

    /// What has happened so far, and to which request.
    pub fn done(&self) -> Vec<(Fault, String)> {
        self.planned().done.clone()
    }

    fn planned(&self) -> MutexGuard<'_, Planned> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, line: &str) -> Option<Fault> {
        let mut planned = self.planned();
        if planned.left == 0 || planned.random.below(ONE_IN) != 0 {
            return None;
        }
        planned.left -= 1;
        let fault = Fault::drawn(&mut planned.random);
        planned.done.push((fault, line.to_owned()));
        Some(fault)
    }

    fn serve(&self, mut caller: TcpStream, store: SocketAddr) -> io::Result<()> {
        caller.set_read_timeout(Some(SILENCE_LIMIT))?;
        let Some(request) = Request::read(&mut caller)? else {
            return Ok(());
        };
        let fault = self.draw(&request.line);
        match fault {
            Some(Fault::Refused) => return caller.shutdown(Shutdown::Both),
            Some(Fault::Busy) => return caller.write_all(BUSY),
            Some(Fault::Broken) => return caller.write_all(BROKEN),
            Some(Fault::Slow(time)) => thread::sleep(time),
            _ => {}
        }
        let mut to = TcpStream::connect(store)?;
        to.set_read_timeout(Some(SILENCE_LIMIT))?;
        to.write_all(&request.head)?;
        if let Some(Fault::Cut(thousandths)) = fault {
            to.write_all(part(&request.body, thousandths))?;
            to.shutdown(Shutdown::Both)?;
            return caller.shutdown(Shutdown::Both);
        }
        to.write_all(&request.body)?;
        let mut answer = Vec::new();
        to.read_to_end(&mut answer)?;
        match fault {
            Some(Fault::Unanswered) => caller.shutdown(Shutdown::Both),
            Some(Fault::CutAnswer(thousandths)) => caller.write_all(part(&answer, thousandths)),
            _ => caller.write_all(&answer),
        }
    }
}

fn part(bytes: &[u8], thousandths: u64) -> &[u8] {
    let share = usize::try_from(thousandths).unwrap_or(1000).min(1000);
    &bytes[..bytes.len() * share / 1000]
}

/// A request, as it is passed on.
struct Request {
    /// Its method and path.
    line: String,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// None where the caller ends its connection instead.
    fn read(from: &mut TcpStream) -> io::Result<Option<Request>> {
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            let mut some = [0; 8 << 10];
            let count = from.read(&mut some)?;
            if count == 0 || read.len() > HEAD_MAX {
                return Ok(None);
            }
            read.extend_from_slice(&some[..count]);
        };
        let mut body = read.split_off(end + 4);
        let text = String::from_utf8_lossy(&read[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let (mut head, mut length) = (format!("{line}\r\n"), 0);
        for header in lines {
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "transfer-encoding" => return Err(io::Error::other("a body of unknown length")),
                "connection" => continue,
                _ => {}
            }
            head += &format!("{header}\r\n");
        }
        // No signature covers it.
        head += "Connection: close\r\n\r\n";
        let rest = length - body.len().min(length);
        let so_far = body.len();
        body.resize(so_far + rest, 0);
        from.read_exact(&mut body[so_far..])?;
        let mut words = line.split(' ');
        let line = [words.next(), words.next()].map(Option::unwrap_or_default);
        Ok(Some(Request {
            line: line.join(" "),
            head: head.into_bytes(),
            body,
        }))
    }
}
