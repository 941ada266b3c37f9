//! A TCP proxy that cuts each of its connections after a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the proxy has done, and whether it still cuts.
#[derive(Default)]
pub struct Scissors {
    pub cuts: AtomicUsize,
    pub blunt: AtomicBool,
}

/// Starts a proxy to `url`; its own URL. A connection is cut after `bytes` from the caller, more or
/// less: each one lasts half as long again as the one before, up to three times, then anew.
pub async fn start(url: String, bytes: usize, scissors: Arc<Scissors>) -> String {
    let (listener, own) = crate::peer::fixture::listen().await;
    let target = url.trim_start_matches("http://").to_owned();
    tokio::spawn(accept(listener, target, bytes, scissors));
    own
}

async fn accept(listener: TcpListener, target: String, bytes: usize, scissors: Arc<Scissors>) {
    let mut made = 0;
    while let Ok((inbound, _)) = listener.accept().await {
        let budget = bytes * (2 + made % 5) / 2;
        made += 1;
        let Ok(outbound) = TcpStream::connect(&target).await else {
            continue;
        };
        tokio::spawn(forward(inbound, outbound, budget, scissors.clone()));
    }
}

async fn forward(inbound: TcpStream, outbound: TcpStream, budget: usize, scissors: Arc<Scissors>) {
    let (mut from_caller, mut to_caller) = inbound.into_split();
    let (mut from_target, mut to_target) = outbound.into_split();
    let back = async { tokio::io::copy(&mut from_target, &mut to_caller).await };
    let there = async {
        let mut buffer = vec![0; 16 << 10];
        let mut left = budget;
        loop {
            let read = from_caller.read(&mut buffer).await.unwrap_or_default();
            if read == 0 {
                return;
            }
            if read >= left && !scissors.blunt.load(Ordering::Relaxed) {
                // In the middle of a frame, mostly.
                let _ = to_target.write_all(&buffer[..left]).await;
                scissors.cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            left = left.saturating_sub(read).max(1);
            if to_target.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = back => {}
        () = there => {}
    }
}
