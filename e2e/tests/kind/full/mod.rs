//! What only `make e2e-full` runs: each story in a namespace of its own.

pub mod access;
pub mod bad_image;
pub mod cert_manager;
pub mod certificates;
pub mod control_plane_moved;
pub mod control_plane_restored;
pub mod corrupt;
pub mod drained;
pub mod gone;
pub mod helm_lifecycle;
pub mod hibernation;
pub mod imported;
pub mod namespace_deleted;
pub mod no_space;
pub mod node_deleted;
pub mod operator_killed;
mod out_of_use;
pub mod point_in_time;
pub mod policies;
pub mod prometheus;
pub mod recovered;
pub mod restore_in_place;
pub mod rolling_config_change;
pub mod storage_grows;
pub mod stuck;
pub mod upgraded;
pub mod worker_node_stopped;
