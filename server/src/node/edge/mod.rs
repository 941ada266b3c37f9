//! What clients reach: calls, reads and what confirms them, and where results of applying go.

pub mod ask;
pub mod backend;
pub mod barrier;
pub mod fence;
pub mod gauges;
pub mod memory;
pub mod pages;
pub mod read_index;
pub mod reads;
pub mod renew;
pub mod route;
pub mod sink;
pub mod users;
