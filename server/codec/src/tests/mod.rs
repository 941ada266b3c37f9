//! Requests survive the way into a log entry and back; answers equal prost's bytes.

mod answers;
mod batches;
mod operations;
mod requests;
