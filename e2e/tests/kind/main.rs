//! Stories on real Kubernetes, by kind. `make e2e` runs them; `TEST=name` one of them, `KEEP=1`
//! leaves the clusters up.

mod kubernetes_on_engram;
mod smoke;
mod steps;
mod writer;
