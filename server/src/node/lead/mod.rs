//! Who leads, and what only a leader does: leases, comparisons, compaction on schedule, the log kept for others.

pub mod compactor;
pub mod contacts;
pub mod corruption;
pub mod duties;
pub mod growth;
pub mod held_up;
pub mod late;
pub mod leadership;
pub mod lessor;
pub mod no_space;
pub mod successor;
pub mod verdict;
