//! Clusters in one process: real logs, stores, apply threads and TCP; only the clients are missing.

mod cluster;
mod elections;
mod log_reads;
mod proxy;
mod replication;
mod snapshots;
