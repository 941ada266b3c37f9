//! The planner's rules, by example and as properties of a simulated cluster.

mod examples;
mod properties;
mod simulation;
