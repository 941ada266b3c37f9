//! Stories on real Kubernetes, by kind. `make e2e` runs those of CI, `make e2e-full` all of them;
//! `TEST=name` some of them, `KEEP=1` leaves the clusters up.

mod ci;
mod frozen;
mod full;
mod lab;
mod prometheus;
mod runner;
mod s3;
mod steps;
mod table;

use std::process::ExitCode;

use runner::Stage::{Own, Shared};
use runner::Story;

const STORIES: [Story; 30] = [
    Story {
        name: "ci::kubernetes_on_engram",
        stage: Own(ci::kubernetes_on_engram::tell),
    },
    Story {
        name: "full::control_plane_moved",
        stage: Own(full::control_plane_moved::tell),
    },
    Story {
        name: "full::control_plane_restored",
        stage: Own(full::control_plane_restored::tell),
    },
    Story {
        name: "full::ipv6_only",
        stage: Own(full::ipv6_only::tell),
    },
    Story {
        name: "full::upgraded",
        stage: Own(full::upgraded::tell),
    },
    Story {
        name: "ci::operator_on_kind",
        stage: Shared(ci::operator_on_kind),
    },
    Story {
        name: "full::rolling_config_change",
        stage: Shared(full::rolling_config_change::tell),
    },
    Story {
        name: "full::authority_rotated",
        stage: Shared(full::certificates::authority_rotated),
    },
    Story {
        name: "full::certificates_from_secrets",
        stage: Shared(full::certificates::from_secrets),
    },
    Story {
        name: "full::access",
        stage: Shared(full::access::tell),
    },
    Story {
        name: "full::bad_image",
        stage: Shared(full::bad_image::tell),
    },
    Story {
        name: "full::cert_manager",
        stage: Shared(full::cert_manager::tell),
    },
    Story {
        name: "full::corrupt",
        stage: Shared(full::corrupt::tell),
    },
    Story {
        name: "full::operator_killed",
        stage: Shared(full::operator_killed::tell),
    },
    Story {
        name: "full::restore_in_place",
        stage: Shared(full::restore_in_place::tell),
    },
    Story {
        name: "full::point_in_time",
        stage: Shared(full::point_in_time::tell),
    },
    Story {
        name: "full::recovered",
        stage: Shared(full::recovered::tell),
    },
    Story {
        name: "full::namespace_deleted",
        stage: Shared(full::namespace_deleted::tell),
    },
    Story {
        name: "full::imported",
        stage: Shared(full::imported::tell),
    },
    Story {
        name: "full::policies",
        stage: Shared(full::policies::tell),
    },
    Story {
        name: "full::prometheus",
        stage: Shared(full::prometheus::tell),
    },
    Story {
        name: "full::no_space",
        stage: Shared(full::no_space::tell),
    },
    Story {
        name: "full::hibernation",
        stage: Shared(full::hibernation::tell),
    },
    Story {
        name: "full::storage_grows",
        stage: Shared(full::storage_grows::tell),
    },
    Story {
        name: "full::drained",
        stage: Shared(full::drained::tell),
    },
    Story {
        name: "full::stuck",
        stage: Shared(full::stuck::tell),
    },
    Story {
        name: "full::gone",
        stage: Shared(full::gone::tell),
    },
    Story {
        name: "full::worker_node_stopped",
        stage: Shared(full::worker_node_stopped::tell),
    },
    Story {
        name: "full::node_deleted",
        stage: Shared(full::node_deleted::tell),
    },
    // The last one: it takes the operator away and brings it back.
    Story {
        name: "full::helm_lifecycle",
        stage: Shared(full::helm_lifecycle::tell),
    },
];

fn main() -> ExitCode {
    runner::run(&STORIES)
}
