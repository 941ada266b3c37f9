//! How much room the disk has, and how it is given back.

pub mod defragment;
pub mod reclaim;
pub mod space;
