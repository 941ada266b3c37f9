//! Whole members without a client's edge: real logs, engines, apply threads and hubs, led by hand or
//! by openraft.

mod raft;
