//! The Kubernetes operator of Engram: clusters, members, backups, restores and operations as
//! objects of the group `engram.dev`.
//!
//! Observe, plan, act, say so: [`observe`] reads what is, [`plan`] decides (pure, no client, no
//! clock), [`act`] does one step, [`reconcile`] runs the loop of each kind. Objects are built by
//! [`desired`] and certificates made by [`pki`], which are pure as well.

pub mod act;
pub mod api;
pub mod apiserver;
pub mod clock;
pub mod crdgen;
pub mod desired;
pub mod etcd;
pub mod lease;
mod mutant;
pub mod observe;
pub mod pki;
pub mod plan;
#[cfg(test)]
mod played;
pub mod pulse;
pub mod reconcile;
pub mod serve;
pub mod settings;
pub mod telemetry;
