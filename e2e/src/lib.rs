//! The black-box harness: it starts the real programs, talks to them as their users do, and keeps
//! the books that tell a right answer from a wrong one.
//!
//! It knows the product only by its command line, its gRPC surface and its files' names; it never
//! links the server. A broken expectation panics with a sentence: that is how a test fails. What a
//! test starts, it stops by process id, and what it writes lies in a temporary directory, which is
//! kept when the test fails.
//!
//! The programs come from the environment:
//! - `ENGRAM_BIN`: the server under test (default `~/.cache/engram/target/release/engram`). It takes
//!   etcd's flags, so a real etcd may stand here: that is how the tests themselves were tested.
//! - `ENGRAMCTL_BIN`: the command-line tool (default: `engramctl` beside the server).
//! - `ENGRAM_TOOLS_BIN`: the directory of etcd, etcdctl, etcdutl, goldens and differential, as
//!   `e2e/tools/build.sh` fills it (default `~/.cache/engram/tools/bin`).

pub mod audit;
pub mod bad_disk;
pub mod certificates;
pub mod client;
pub mod cloud;
pub mod cluster;
pub mod collector;
pub mod disk;
mod documents;
pub mod etcd_traffic;
pub mod history;
pub mod http2;
pub mod kind;
pub mod leased;
pub mod load;
pub mod ports;
pub mod probe;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod raise;
pub mod random;
pub mod raw;
pub mod server;
pub mod store_gate;
pub mod switches;
pub mod tools;
pub mod turn;
pub mod users;
pub mod wallet;
