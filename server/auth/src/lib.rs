//! How somebody shows who they are: passwords, simple tokens and JSON Web Tokens.
//!
//! Owns which token is whose on this member, and bcrypt. Must never decide what a user may do (that
//! is `state::auth`), or let a token or password into a log, a metric or a panic.

#![forbid(unsafe_code)]

mod jwt;
mod passwords;
mod tokens;

use engram_process::{budget, threads};
use engram_types as types;

pub use jwt::{Jwt, JwtError, VerifyOnly};
pub use passwords::{Busy, Passwords};
pub use tokens::Tokens;
