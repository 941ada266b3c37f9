//! The planner's rules, by example and as properties of a simulated cluster.

mod aside;
mod examples;
mod model;
mod properties;
mod simulation;
mod unseen;
