//! Mistakes that are planted in passes, and the stories that tell of each.

use super::super::mutant::{ALL, Mutant, plant};
use super::super::store;
use super::{children, meanwhile, recovery};

/// A story that ends badly where this mistake is made.
fn story(of: Mutant) -> fn() {
    match of {
        Mutant::StatusWrittenOver => {
            meanwhile::what_another_operator_writes_between_two_calls_is_not_put_back
        }
        Mutant::DeletedUnseen => {
            meanwhile::a_backup_that_is_complete_by_now_is_not_ended_for_the_next_one
        }
        Mutant::BuiltUnmarked => children::who_is_named_no_more_is_out_of_the_policy,
        Mutant::LookedAtInUse => recovery::volumes_that_members_write_to_are_not_looked_at,
        Mutant::LookedAtOnce => {
            recovery::volumes_that_changed_since_they_were_looked_at_are_confirmed_anew
        }
        Mutant::HoldNotReleased => recovery::what_is_held_is_let_go_of_where_it_is_given_up,
        Mutant::SecretsUnseen => {
            store::passes::what_becomes_of_its_secret_is_seen_within_minutes_and_nothing_costs_little
        }
    }
}

#[test]
fn every_planted_mistake_is_found() {
    let missed = ALL.iter().filter(|mutant| {
        plant(Some(**mutant));
        let told = std::panic::catch_unwind(story(**mutant));
        plant(None);
        told.is_ok()
    });
    let missed: Vec<&Mutant> = missed.collect();
    assert!(missed.is_empty(), "{missed:?}");
}
