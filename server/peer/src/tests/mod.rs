//! The peer room over loopback TCP: handshakes, limits, append streams, reconnecting, plain HTTP.

mod appends;
mod fake;
mod handshakes;
mod links;
mod pages;
mod strangers;
