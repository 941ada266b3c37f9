//! From parts to a running member, and back: what begins, in which order, and what the world outside hears of it.

pub mod announce;
pub mod archive;
pub mod beginning;
pub mod joined;
pub mod options;
pub mod parts;
pub mod raft_thread;
pub mod serve;
pub mod signals;
pub mod spans;
#[cfg(feature = "fixtures")]
pub mod staged;
pub mod tls;
pub mod token;
pub mod told;
