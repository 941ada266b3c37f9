//! Whose the data directory is, and what lies in it: looked at before anything runs, or while nothing does.

pub mod adoption;
pub mod boot;
pub mod discovery;
pub mod etcd_directory;
pub mod identity;
pub mod join;
pub mod member_id;
pub mod offline;
pub mod own_log;
