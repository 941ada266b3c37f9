//! The state made of what an engine holds: a thread reads records and what they say, while this one makes
//! the index of it, which takes about as long.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::state::{Limits, LoadError, Loaded, RecordRef, State, Tables};
use crate::storage::Engine;
use crate::threads::{self, steps};

/// Records that go from one thread to the other at once.
const CHUNK_RECORDS: usize = 512;
/// Bytes of them from which on they go before there are as many.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait for the index at most.
const CHUNKS_MAX: usize = 4;

type Chunk = Vec<Loaded>;
type Feed<'f> = dyn FnMut(Loaded) -> Result<(), LoadError> + 'f;

/// Rebuilds the state of an engine whose tables these are. Blocks; on two threads, but on a simulator's
/// stage.
///
/// # Errors
/// See [`LoadError`].
pub fn load(limits: Limits, tables: Tables, engine: &Engine) -> Result<State, LoadError> {
    State::load(limits, tables, |feed| match steps::is_on_stage() {
        true => engine.records(&mut |record| feed(Loaded::of(record)?)),
        false => read_ahead(engine, feed),
    })
}

fn read_ahead(engine: &Engine, feed: &mut Feed<'_>) -> Result<(), LoadError> {
    let (chunks, queue) = sync_channel(CHUNKS_MAX);
    let engine = engine.clone();
    let reader =
        threads::spawn("engram-load", move || read(&engine, &chunks)).map_err(no_thread)?;
    // The queue goes with it: the reader has nobody to read for where it failed.
    let fed = feed_all(queue, feed);
    // A panic has ended the process.
    let read = reader.join().expect("the reader has not panicked");
    fed.and(read)
}

fn feed_all(queue: Receiver<Chunk>, feed: &mut Feed<'_>) -> Result<(), LoadError> {
    queue.into_iter().flatten().try_for_each(feed)
}

/// Reads all, or until nobody takes any more.
fn read(engine: &Engine, chunks: &SyncSender<Chunk>) -> Result<(), LoadError> {
    let mut chunk = Chunk::with_capacity(CHUNK_RECORDS);
    let mut bytes = 0;
    engine.records(&mut |record: RecordRef<'_>| {
        bytes += record.encoded.len();
        chunk.push(Loaded::of(record)?);
        if chunk.len() < CHUNK_RECORDS && bytes < CHUNK_BYTES {
            return Ok(());
        }
        bytes = 0;
        let full = std::mem::replace(&mut chunk, Chunk::with_capacity(CHUNK_RECORDS));
        threads::idle();
        let sent = chunks.send(full).map_err(|_| unwanted());
        threads::turn();
        sent
    })?;
    // Whoever has had enough has said why.
    let _ = chunks.send(chunk);
    Ok(())
}

/// Ends the reading. What made it end is told instead.
fn unwanted() -> LoadError {
    LoadError::Storage("nobody takes what is read".into())
}

fn no_thread(error: io::Error) -> LoadError {
    LoadError::Storage(format!("the system has no thread to read with: {error}").into())
}
