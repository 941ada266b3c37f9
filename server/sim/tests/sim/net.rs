//! The network between members: connections as bytes that take a while, links that are cut either way,
//! connections that are reset.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use engram_process::threads::steps;
use engram_server::peer::{BoxedIo, Dial};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::UnboundedSender;

use crate::random::Random;
use crate::system;

/// The port of the first member; the others follow.
const FIRST_PORT: u16 = 12380;
/// Bytes on their way in one direction of a connection, beyond which its writer waits.
const IN_FLIGHT_MAX: usize = 1 << 20;
/// How long a dial over a link that is cut takes to fail.
const DIAL_FAILS_AFTER: Duration = Duration::from_millis(200);

/// The peer URL of a member.
pub fn url(member: usize) -> String {
    format!("http://127.0.0.1:{}", usize::from(FIRST_PORT) + member)
}

fn member_at(url: &str) -> Option<usize> {
    let port: usize = url.trim_end_matches('/').rsplit(':').next()?.parse().ok()?;
    port.checked_sub(usize::from(FIRST_PORT))
}

/// One direction of a connection.
#[derive(Default)]
struct Wire {
    from: usize,
    to: usize,
    chunks: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// When what is sent last arrives: nothing overtakes.
    last_due_ns: u64,
    is_closed: bool,
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct State {
    random: Random,
    wires: Vec<Weak<Mutex<Wire>>>,
    /// `cut[from][to]`: nothing sent that way arrives.
    cut: Vec<Vec<bool>>,
    /// The most milliseconds that a message takes.
    delay_max_ms: u64,
    arrivals: Vec<Option<UnboundedSender<BoxedIo>>>,
}

/// The network. Clones are one.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

impl Net {
    /// A network between so many members.
    pub fn new(members: usize, seed: u64) -> Net {
        Net(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            wires: Vec::new(),
            cut: vec![vec![false; members]; members],
            delay_max_ms: 1,
            arrivals: (0..members).map(|_| None).collect(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("the simulator has one thread")
    }

    /// How `member` reaches others.
    pub fn dial_of(&self, member: usize) -> Arc<dyn Dial> {
        Arc::new(From {
            member,
            net: self.clone(),
        })
    }

    /// Connections to `member` go there from now on; nowhere, where it is down.
    pub fn listen(&self, member: usize, arrivals: Option<UnboundedSender<BoxedIo>>) {
        self.state().arrivals[member] = arrivals;
    }

    /// Cuts or mends one direction between two members.
    pub fn cut(&self, from: usize, to: usize, is_cut: bool) {
        self.state().cut[from][to] = is_cut;
    }

    /// Mends everything.
    pub fn heal(&self) {
        let mut state = self.state();
        for row in &mut state.cut {
            row.fill(false);
        }
        state.delay_max_ms = 1;
    }

    /// The most milliseconds that a message takes from now on.
    pub fn delay(&self, most_ms: u64) {
        self.state().delay_max_ms = most_ms;
    }

    /// Whether messages take long.
    pub fn is_slow(&self) -> bool {
        self.state().delay_max_ms > 1
    }

    /// Whether what a member sends and is sent arrives.
    pub fn is_whole(&self, member: usize) -> bool {
        let state = self.state();
        let sends = state.cut[member].iter();
        let is_sent = state.cut.iter().map(|row| &row[member]);
        !sends.chain(is_sent).any(|is_cut| *is_cut)
    }

    /// Resets the connections between two members, whatever is on its way.
    pub fn reset(&self, one: usize, other: usize) {
        for wire in self.state().wires.iter().filter_map(Weak::upgrade) {
            let mut wire = lock(&wire);
            if [(one, other), (other, one)].contains(&(wire.from, wire.to)) {
                wire.is_reset = true;
                wake(&mut wire);
            }
        }
    }

    /// Wakes whoever has something to read by now.
    pub fn pump(&self, now_ns: u64) {
        let mut state = self.state();
        let State { wires, cut, .. } = &mut *state;
        wires.retain(|wire| {
            let Some(wire) = wire.upgrade() else {
                return false;
            };
            let mut wire = lock(&wire);
            let has_news = match wire.chunks.front() {
                Some((due, _)) => *due <= now_ns,
                None => wire.is_closed,
            };
            if has_news && !cut[wire.from][wire.to] {
                wire.reader.take().into_iter().for_each(Waker::wake);
            }
            true
        });
    }

    fn is_cut(&self, wire: &Wire) -> bool {
        self.state().cut[wire.from][wire.to]
    }

    fn wire(&self, from: usize, to: usize) -> Arc<Mutex<Wire>> {
        let wire = Arc::new(Mutex::new(Wire {
            from,
            to,
            ..Wire::default()
        }));
        self.state().wires.push(Arc::downgrade(&wire));
        wire
    }

    fn due_ns(&self) -> u64 {
        let mut state = self.state();
        let most = state.delay_max_ms;
        system::true_ns() + state.random.between(0, most) * system::NS_A_MS
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().expect("the simulator has one thread")
}

fn wake(wire: &mut Wire) {
    wire.reader.take().into_iter().for_each(Waker::wake);
    wire.writer.take().into_iter().for_each(Waker::wake);
}

/// A member's way out.
struct From {
    member: usize,
    net: Net,
}

impl Dial for From {
    fn dial<'a>(
        &'a self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let to = member_at(url).ok_or_else(refused)?;
            let (arrivals, is_cut) = {
                let state = self.net.state();
                let arrivals = state.arrivals.get(to).cloned().flatten();
                (
                    arrivals,
                    state.cut[self.member][to] || state.cut[to][self.member],
                )
            };
            if is_cut {
                tokio::time::sleep(DIAL_FAILS_AFTER).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            let (there, back) = (
                self.net.wire(self.member, to),
                self.net.wire(to, self.member),
            );
            let end = |out: &Arc<Mutex<Wire>>, coming: &Arc<Mutex<Wire>>| {
                Box::new(End {
                    net: self.net.clone(),
                    out: out.clone(),
                    coming: coming.clone(),
                }) as BoxedIo
            };
            let sent = arrivals.ok_or_else(refused)?.send(end(&back, &there));
            sent.map_err(|_| refused())?;
            Ok(end(&there, &back))
        })
    }
}

/// One end of a connection.
struct End {
    net: Net,
    out: Arc<Mutex<Wire>>,
    coming: Arc<Mutex<Wire>>,
}

impl Drop for End {
    fn drop(&mut self) {
        lock(&self.out).is_closed = true;
        let mut coming = lock(&self.coming);
        coming.is_reset = true;
        wake(&mut coming);
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.coming);
        if wire.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let is_cut = self.net.is_cut(&wire);
        let is_due = wire
            .chunks
            .front()
            .is_some_and(|(due, _)| *due <= system::true_ns());
        if !is_cut && is_due {
            let (_, chunk) = wire.chunks.front_mut().expect("one is due");
            let taken = chunk.split_to(chunk.len().min(buffer.remaining()));
            if chunk.is_empty() {
                wire.chunks.pop_front();
            }
            buffer.put_slice(&taken);
            wire.bytes -= taken.len();
            wire.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
        if !is_cut && wire.is_closed && wire.chunks.is_empty() {
            return Poll::Ready(Ok(()));
        }
        wire.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let due = self.net.due_ns();
        let mut wire = lock(&self.out);
        // Nothing leaves a process that has ended.
        if steps::has_ended() {
            return Poll::Pending;
        }
        if wire.is_reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if wire.bytes >= IN_FLIGHT_MAX {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wire.last_due_ns = wire.last_due_ns.max(due);
        wire.bytes += bytes.len();
        let due = wire.last_due_ns;
        wire.chunks.push_back((due, Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.out).is_closed = true;
        Poll::Ready(Ok(()))
    }
}
