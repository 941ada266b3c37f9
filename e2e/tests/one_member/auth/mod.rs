//! Users, roles and permissions: answers beside a real etcd's, every field that names a key, and what
//! lives longer than a call.

mod answers;
mod beside;
mod jwt;
mod lives;
mod matrix;
mod secrets;
mod ttl;
