//! Where the processor's time goes: the stack of whoever runs, looked at a hundred times a second of it.
//!
//! The look is a signal (SIGPROF) that interrupts a thread wherever it is, maybe within the allocator or the
//! loader, so nothing that it does may take memory or wait for a lock: stacks are walked by tables that were
//! read before (`framehop`), not by the loader's lists.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};

use crate::format::{Line, Profile};

/// Go's rate: looks a second of the processor's time.
const LOOKS_A_SECOND: i32 = 100;
/// Libraries in which nobody is looked at: libgcc, which panics use, holds locks of its own, and what the
/// kernel brings (vdso) has no tables on the disk.
const PASSED_OVER: [&str; 2] = ["libgcc", "vdso"];
/// Where looks go that memory has no place for, if the directory for temporary files takes none.
const SHARED_MEMORY: &str = "/dev/shm";

/// There is one timer a process.
static TURN: Mutex<Unwinder> = Mutex::new(Unwinder::Unready);

enum Unwinder {
    Unready,
    Ready,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// One is being taken.
    #[error("cpu profiling already in use")]
    Busy,
    /// The profiler does not start or end as it should.
    #[error("{0} (it needs a directory for temporary files that can be written to: TMPDIR)")]
    Profiler(#[from] pprof::Error),
    /// The system refuses a signal.
    #[error("{0}")]
    Signal(#[from] std::io::Error),
    /// Nobody waits for it any more.
    #[error("nobody waits for it any more")]
    Abandoned,
}

/// Looks for `time`, or until the other end of `abandoned` is dropped, and says what was seen. Blocks; one at
/// a time.
///
/// # Errors
/// There is no profile.
pub fn profile<T>(time: Duration, abandoned: &Receiver<T>) -> Result<Vec<u8>, CpuError> {
    let mut turn = TURN.try_lock().ok_or(CpuError::Busy)?;
    if let Unwinder::Unready = *turn {
        read_tables()?;
        *turn = Unwinder::Ready;
    }
    let guard = begin(LOOKS_A_SECOND)?;
    if !matches!(abandoned.recv_timeout(time), Err(RecvTimeoutError::Timeout)) {
        return Err(CpuError::Abandoned);
    }
    told(&guard)
}

fn begin(looks_a_second: i32) -> Result<ProfilerGuard<'static>, CpuError> {
    let builder = ProfilerGuardBuilder::default().frequency(looks_a_second);
    Ok(builder.blocklist(&PASSED_OVER).build()?)
}

/// Has the stacks' tables read. The first look does it, and takes memory for them: so it is taken here, where
/// this thread is not within the allocator, before others are.
fn read_tables() -> Result<(), CpuError> {
    if tempfile::tempfile().is_err() {
        // A container whose root cannot be written to. Whoever set it first has the same reason.
        let _ = tempfile::env::override_temp_dir(std::path::Path::new(SHARED_MEMORY));
    }
    // The first look of the timer comes after a second of the processor's time.
    let guard = begin(1)?;
    signal_hook::low_level::raise(libc::SIGPROF)?;
    drop(guard);
    Ok(())
}

fn told(guard: &ProfilerGuard<'_>) -> Result<Vec<u8>, CpuError> {
    let report = guard.report().build()?;
    let nanos_a_look = 1_000_000_000 / i64::from(LOOKS_A_SECOND);
    let mut profile = Profile::of(&[("samples", "count"), ("cpu", "nanoseconds")]);
    let timing = &report.timing;
    profile.sampled(nanos_a_look, timing.start_time, timing.duration);
    for (frames, count) in &report.data {
        let stack: Vec<Vec<Line>> = frames
            .frames
            .iter()
            .map(|frame| frame.iter().map(line).collect())
            .collect();
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        let values = vec![count, count.saturating_mul(nanos_a_look)];
        profile.add(&stack, values, Some(&frames.thread_name_or_id()));
    }
    Ok(profile.encode())
}

fn line(symbol: &pprof::Symbol) -> Line {
    let file = symbol.filename.as_ref();
    let file = file.map_or_else(String::new, |path| path.display().to_string());
    Line {
        function: in_its_module(symbol.name(), &file),
        file,
        line: symbol.lineno(),
    }
}

/// A function's name behind its module, as far as the file tells it: what a release is built with names
/// functions alone (`poll`), and there are hundreds of each name.
fn in_its_module(name: String, file: &str) -> String {
    let Some((before, within)) = file.rsplit_once("/src/").filter(|_| !name.contains("::")) else {
        return name;
    };
    let folder = before.rsplit('/').next().unwrap_or(before);
    // A registry's folders have versions.
    let versioned = folder.rsplit_once('-');
    let versioned =
        versioned.filter(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit()));
    let package = versioned.map_or(folder, |(package, _)| package);
    let module = within.strip_suffix(".rs").unwrap_or(within);
    let module = module
        .split('/')
        .filter(|part| !["lib", "main", "mod"].contains(part));
    let parts = std::iter::once(package)
        .chain(module)
        .chain([name.as_str()]);
    parts.collect::<Vec<_>>().join("::")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hint::black_box;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    use super::*;
    use crate::format::Told;

    #[inline(never)]
    fn takes_its_time(stop: &AtomicBool) {
        let mut sum = 0u64;
        while !stop.load(Ordering::Relaxed) {
            for number in 0..10_000u64 {
                sum = black_box(sum ^ number.wrapping_mul(0x9e37_79b9));
            }
        }
    }

    /// Work within the allocator, the loader and the unwinder, where a look may not wait or take memory.
    fn takes_memory_and_panics(stop: &AtomicBool) {
        let mut kept = BTreeMap::new();
        let mut number = 0u64;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            kept.insert(number % 1000, vec![7u8; (number % 4096) as usize]);
            if number.is_multiple_of(200) {
                let unwound = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(7)));
                assert!(unwound.is_err());
            }
        }
    }

    /// There are two tests and one turn.
    fn in_turn(time: Duration, abandoned: &Receiver<()>) -> Result<Vec<u8>, CpuError> {
        let began = Instant::now();
        loop {
            match profile(time, abandoned) {
                Err(CpuError::Busy) if began.elapsed() < Duration::from_secs(60) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                ended => return ended,
            }
        }
    }

    #[test]
    fn a_name_alone_gets_its_module() {
        let named = |name: &str, file: &str| in_its_module(name.into(), file);
        assert_eq!(named("poll", "server/api/src/kv/mod.rs"), "api::kv::poll");
        let registry = "/root/.cargo/registry/src/index-1949/tokio-1.49.0/src/runtime/task/raw.rs";
        assert_eq!(named("poll", registry), "tokio::runtime::task::raw::poll");
        let core = "/rustc/5980/library/core/src/ops/function.rs";
        assert_eq!(named("call", core), "core::ops::function::call");
        assert_eq!(named("a::b", "server/api/src/lib.rs"), "a::b");
        assert_eq!(named("__libc_send", ""), "__libc_send");
    }

    #[test]
    fn whoever_runs_is_seen_and_a_look_stops_nobody() {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |name: &str, work: fn(&AtomicBool)| {
            let stop = stop.clone();
            let builder = std::thread::Builder::new().name(name.into());
            builder.spawn(move || work(&stop)).unwrap()
        };
        let threads = [
            start("busy", takes_its_time),
            start("takes", takes_memory_and_panics),
            start("takes too", takes_memory_and_panics),
        ];
        let (waits, abandoned) = mpsc::channel::<()>();
        let began = Instant::now();
        let bytes = in_turn(Duration::from_secs(3), &abandoned).unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            began.elapsed()
        );
        drop(waits);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        let samples = crate::format::told(&bytes);
        let busy = |(functions, _, thread): &&Told| {
            thread.as_deref() == Some("busy")
                && functions.iter().any(|name| name.contains("takes_its_time"))
        };
        let looks: i64 = samples.iter().filter(busy).map(|sample| sample.1[0]).sum();
        assert!(looks > 5, "{looks} looks: {samples:#?}");
    }

    #[test]
    fn who_goes_away_ends_it() {
        let (waits, abandoned) = mpsc::channel::<()>();
        drop(waits);
        let ended = in_turn(Duration::from_secs(300), &abandoned);
        assert!(matches!(ended, Err(CpuError::Abandoned)), "{ended:?}");
    }
}
