//! What Go's libraries make of answers, where scripts read it: `encoding/json` of its generated messages
//! ([`json`]), numbers ([`numbers`]), `%q` ([`quoted`]), and the words of a line ([`words`]).

pub mod json;
pub mod numbers;
pub mod quoted;
pub mod words;
