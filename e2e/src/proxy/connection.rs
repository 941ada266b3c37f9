//! One connection through a gate: two pumps, each under the rule of its direction.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Link, Rule};
use crate::random::Random;

/// The most that is read at once. Bytes.
const CHUNK_MAX: usize = 16 * 1024;
/// Chunks under way in one direction: what a slow network would hold in its buffers.
const CHUNKS_MAX: usize = 64;

/// Carries bytes until either side ends the connection, or a rule does.
pub async fn carry(
    inbound: TcpStream,
    target: SocketAddr,
    there: watch::Receiver<Rule>,
    back: watch::Receiver<Rule>,
) {
    let (cut_there, cut_back) = (there.clone(), back.clone());
    tokio::select! {
        () = connect_and_pump(inbound, target, there, back) => {}
        () = is_cut(cut_there) => {}
        () = is_cut(cut_back) => {}
    }
}

async fn connect_and_pump(
    inbound: TcpStream,
    target: SocketAddr,
    mut there: watch::Receiver<Rule>,
    back: watch::Receiver<Rule>,
) {
    // While nothing passes, the target must not even see that it is being dialled.
    until_passing(&mut there).await;
    let Ok(outbound) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&inbound, &outbound] {
        // Without it the pumps would add delays of their own; an error means it is gone.
        let _ = stream.set_nodelay(true);
    }
    let (in_read, in_write) = inbound.into_split();
    let (out_read, out_write) = outbound.into_split();
    tokio::join!(
        pump(in_read, out_write, there),
        pump(out_read, in_write, back)
    );
}

/// Resolves when the connections of this direction are to end.
async fn is_cut(mut rule: watch::Receiver<Rule>) {
    let cuts = rule.borrow().cuts;
    let ends = |rule: &Rule| rule.cuts != cuts || rule.link == Link::Reject;
    // The sender goes only with the whole network.
    let _ = rule.wait_for(ends).await;
}

async fn until_passing(rule: &mut watch::Receiver<Rule>) {
    let _ = rule.wait_for(|rule| rule.link != Link::Hold).await;
}

type Chunk = (Instant, Vec<u8>);

async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, rule: watch::Receiver<Rule>) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    tokio::join!(
        take_in(from, sender, rule.clone()),
        give_out(receiver, to, rule)
    );
}

/// Reads, and notes when each chunk is due.
async fn take_in(mut from: OwnedReadHalf, due: mpsc::Sender<Chunk>, rule: watch::Receiver<Rule>) {
    let seed = from.peer_addr().map_or(0, |address| address.port());
    let mut random = Random::new(u64::from(seed));
    let mut chunk = vec![0; CHUNK_MAX];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let link = rule.borrow().link;
        let at = Instant::now() + delay_of(link, &mut random);
        if due.send((at, chunk[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Writes what is due, in order, while the link passes.
async fn give_out(
    mut due: mpsc::Receiver<Chunk>,
    mut to: OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
) {
    while let Some((at, chunk)) = due.recv().await {
        tokio::time::sleep_until(at).await;
        until_passing(&mut rule).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
    until_passing(&mut rule).await;
    // The other side may be gone, which is what is to be told.
    let _ = to.shutdown().await;
}

fn delay_of(link: Link, random: &mut Random) -> Duration {
    let Link::Delay { mean, jitter } = link else {
        return Duration::ZERO;
    };
    let span = u64::try_from(jitter.as_micros() * 2).unwrap_or(u64::MAX);
    let shift = Duration::from_micros(random.below(span.max(1)));
    mean.saturating_sub(jitter) + shift
}
