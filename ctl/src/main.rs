//! engramctl: etcdctl's and etcdutl's verbs with their flags and texts, and Engram's own backups.
//!
//! ```text
//! cli ─► verbs ─► connect (clients over TLS)  or  engram-backup, engram-server's offline rooms
//!           └──► output, go (etcd's formats)      progress (on standard error, where one looks)
//! ```
//!
//! Exit codes are etcdctl's: 0; 1 for what failed, 2 for leases that cannot be asked for; 3 for input that
//! cannot be read, 4 for a flag's value that cannot be, 5 for a watch that the server ended, 128 for
//! arguments that make no sense.

#![forbid(unsafe_code)]

mod cli;
mod connect;
mod failure;
mod go;
mod output;
mod progress;
mod verbs;

use engram_server::exit::leave;
use engram_server::first;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if let Err(error) = first::end_while_unheard() {
        eprintln!("Error: signals cannot be heard: {error}");
        leave(1);
    }
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing better is to be done where the terminal is gone.
            let _ = error.print();
            leave(failure::unreadable(&error));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::new(error)),
    };
    match done {
        Ok(()) => leave(0),
        Err(failure) => {
            if !failure.is_silent() {
                eprintln!("Error: {failure}");
            }
            leave(failure.code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let global = &cli.global;
    if global.debug {
        verbs::options::debug(global);
    }
    match cli.command {
        Command::Get(get) => verbs::kv::get(global, get).await,
        Command::Put(put) => verbs::kv::put(global, put).await,
        Command::Del(del) => verbs::kv::del(global, del).await,
        Command::Txn(txn) => verbs::txn::txn(global, txn).await,
        Command::Watch(watch) => verbs::watch::watch(global, watch).await,
        Command::Lease { command } => verbs::lease::lease(global, command).await,
        Command::Lock(lock) => verbs::lock::lock(global, lock).await,
        Command::Elect(elect) => verbs::elect::elect(global, elect).await,
        Command::MakeMirror(mirror) => verbs::mirror::mirror(global, mirror).await,
        Command::Check { command } => verbs::check::check(global, command).await,
        Command::Auth { command } => verbs::auth::auth(global, command).await,
        Command::User { command } => verbs::auth::user(global, command).await,
        Command::Role { command } => verbs::auth::role(global, command).await,
        Command::Compaction(compaction) => verbs::maintenance::compact(global, compaction).await,
        Command::Defrag(defrag) => verbs::maintenance::defragment(global, &defrag).await,
        Command::Alarm { command } => verbs::maintenance::alarm(global, command).await,
        Command::MoveLeader { target } => verbs::maintenance::move_leader(global, &target).await,
        Command::Downgrade { command } => verbs::downgrade::downgrade(global, command).await,
        Command::Endpoint { scope, command } => {
            verbs::endpoint::endpoint(global, &scope, command).await
        }
        Command::Member { command } => verbs::member::member(global, command).await,
        Command::Snapshot { command } => verbs::snapshot::snapshot(global, command).await,
        Command::Hashkv(hash) => verbs::snapshot::hash_kv(global, hash).await,
        Command::Migrate(migrate) => verbs::migrate::migrate(&migrate),
        Command::Backup { command } => verbs::backup::backup(global, command).await,
        Command::Archive { command } => verbs::archive::archive(global, command).await,
        Command::Restore(restore) => verbs::restore::restore(global, restore).await,
        Command::Adopt(adopt) => verbs::adopt::adopt(global, &adopt),
        Command::Import(import) => verbs::import::import(global, &import).await,
        Command::Inspect(inspect) => verbs::directory::inspect(global, &inspect),
        Command::ForceNewCluster(force) => verbs::directory::force(global, &force),
        Command::Completion { shell } => verbs::options::completion(shell),
        Command::Options => verbs::options::options(),
        Command::Version => {
            println!("engramctl version: {}", env!("CARGO_PKG_VERSION"));
            println!("API version: 3.7");
            Ok(())
        }
    }
}
