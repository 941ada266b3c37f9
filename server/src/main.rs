//! The engram server's entry point: flags in, exit code out.

use std::path::Path;

use engram_server::config::{self, Outcome};
use engram_server::exit::leave;
use engram_server::{first, log, node, threads, trace};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if let Err(error) = first::end_while_unheard() {
        eprintln!("signals cannot be heard: {error}");
        exit(1);
    }
    keep_pages_small();
    let read_file = |path: &Path| std::fs::read(path);
    match config::parse(std::env::args_os().skip(1), std::env::vars_os(), &read_file) {
        Outcome::Run { config, notices } => run(&config, &notices),
        Outcome::Print { text, exit_code } => {
            print!("{text}");
            exit(exit_code)
        }
        Outcome::Fail(failure) => {
            failure.notices.iter().for_each(config::Notice::log);
            // Where there is none, the last line of the log says it.
            if let Some(text) = failure.text {
                eprint!("{text}");
            }
            exit(failure.exit_code)
        }
    }
}

/// Turns transparent huge pages off for this process: with them, memory that is touched here and
/// there (an index, a memtable's arena) is resident, and zeroed, 2 MiB at a time. Measured: 18 %
/// less resident memory after 45,000 puts, the same CPU. A kernel without them has nothing to do.
fn keep_pages_small() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn run(config: &config::Config, notices: &[config::Notice]) -> ! {
    if let Err(error) = trace::init(&config.log) {
        log!(fatal, "the log cannot be opened", error = %error);
        exit(1);
    }
    threads::end_process_on_panic();
    notices.iter().for_each(config::Notice::log);
    match node::run(config) {
        Ok(node::Ended::Signal(signal)) => end_by(signal),
        Ok(node::Ended::Removed) => {
            let error = "the member has been permanently removed from the cluster";
            log!(warn, "server error", error = error);
            log!(warn, "data-dir used by this member must be removed");
            exit(0)
        }
        Err(error) => {
            // etcd's words for whatever keeps it from running, which runbooks look for.
            log!(fatal, "discovery failed", error = %error);
            exit(1)
        }
    }
}

/// Ends as etcd does: by the signal that stopped it, so that a supervisor sees it; as process 1,
/// where signals have no default action, by success.
fn end_by(signal: i32) -> ! {
    if std::process::id() == 1 {
        leave(0);
    }
    if let Err(error) = signal_hook::low_level::emulate_default_handler(signal) {
        log!(warn, "could not end by the signal", signal = signal, error = %error);
    }
    leave(1)
}

fn exit(code: i32) -> ! {
    leave(u8::try_from(code).unwrap_or(1))
}
