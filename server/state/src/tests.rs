//! Tests of the whole state: etcd's recorded answers, rules one by one, and random operations
//! against a model that keeps everything and computes naively.

mod golden;
mod hashes;
mod properties;
mod reclaim;
mod rules;
mod steps;

/// Readers on every connection thread share the state with the apply thread.
const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<super::State>()
};
