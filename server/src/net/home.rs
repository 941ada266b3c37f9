//! The connection threads' inboxes live in [`crate::home`], where rooms below `net` can name them.

pub use crate::home::{HomeId, Homes, Inbox, Job, current};
