//! One member, seen from outside: the real programs against the real server.
//!
//! Run them with `cargo test --release -p engram-e2e --test one_member`. They take turns, since
//! they measure times and use both cores. Numbers to set in the environment: `ENGRAM_CRASH_ROUNDS`
//! (default 40), `ENGRAM_DIFF_OPS` (default 100000), and a seed each that a failed run has printed.

mod auth;
mod bad_input;
mod clients;
mod crash_audit;
mod damaged_log;
mod data_directory;
mod differential;
mod discovery;
mod etcdctl;
mod full_disk;
mod gateway;
mod locks;
mod log_files;
mod log_lines;
mod odd_clients;
mod profiles;
mod proxies;
mod stop_and_settings;
mod switches;
mod tls;
mod tracing;
mod unix_peers;
mod watched_over;
mod websocket;
