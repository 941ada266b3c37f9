//! etcd's log as etcd writes it, and as no disk should leave it; its entries, translated.

mod logs;
mod requests;
