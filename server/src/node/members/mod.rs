//! Who the members are, how they change, and what they ask of each other.

pub mod changes;
pub mod counted_dial;
pub mod directory;
pub mod door;
pub mod drift;
pub mod membership;
pub mod peer_service;
pub mod peers;
