//! Mistakes that a test plants in passes, to see that their stories (`passes`) find each of them.

use crate::mutant::mutants;

mutants! {
    /// A status is written over whatever others have written since.
    StatusWrittenOver,
    /// What has become something else since it was seen is deleted.
    DeletedUnseen,
    /// What is not asked for any more stays in what was built before.
    BuiltUnmarked,
    /// Volumes of a lost quorum are looked at while members write to them.
    LookedAtInUse,
    /// One member goes on alone by what the volumes held before all were stopped.
    LookedAtOnce,
    /// What a person takes back is done, once members are held.
    HoldNotReleased,
    /// What becomes of a store's Secrets is not seen.
    SecretsUnseen,
}
