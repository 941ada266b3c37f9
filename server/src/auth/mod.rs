//! How somebody shows who they are: simple tokens and passwords.
//!
//! Owns which token is whose on this member, and bcrypt. Must never decide what a user may do (that
//! is `state::auth`), or let a token or password into a log, a metric or a panic.

mod passwords;
mod tokens;

pub use passwords::{Busy, Passwords};
pub use tokens::Tokens;
