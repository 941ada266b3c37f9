//! Seeds in processes of their own.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a seed may take: on a busy machine, some hundred times what it does take.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a seed: what it said.
///
/// # Errors
/// What does not hold, or how the process ended.
pub fn run(seed: u64) -> Result<String, String> {
    run_with(seed, &[])
}

/// The same with more in its environment.
pub fn run_with(seed: u64, environment: &[(&str, &str)]) -> Result<String, String> {
    let program = std::env::current_exe().expect("it runs");
    let mut child = Command::new(program)
        .args(["one", &seed.to_string()])
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let succeeded = wait(&mut child)?;
    let mut said = String::new();
    let mut stdout = child.stdout.take().expect("it was asked for");
    stdout.read_to_string(&mut said).expect("text");
    match succeeded {
        true => Ok(said),
        false => Err(said),
    }
}

/// What a seed says is less than a pipe holds: it can be read afterwards.
fn wait(child: &mut Child) -> Result<bool, String> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return Ok(status.success());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("it did not end within {LIMIT:?}"))
}

/// The processor's time that all have taken so far.
pub fn processor_time() -> Duration {
    // SAFETY: zeros are a usage, and it is ours to write to.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let of = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}
