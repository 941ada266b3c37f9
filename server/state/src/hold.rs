//! How applying gets at the state: alone for changes, in company for long reads, and out of the way
//! of readers in between.

use super::State;

/// The state, held by whoever applies. What holds it decides what letting go means: a lock outside
/// of this room, or nothing at all.
pub trait Hold {
    /// The state, alone. For work of a bounded size.
    fn state(&mut self) -> &mut State;

    /// Calls `read` once, with the state in the company of readers: for reads of any size. Nobody
    /// changes anything meanwhile.
    fn in_company(&mut self, read: &mut dyn FnMut(&State));

    /// Lets readers in, where they have waited for long. What is applied so far of a revision is not
    /// shown to them. Called after each [`STEP`] of changes.
    fn breathe(&mut self);
}

/// Changes between two breaths.
pub(super) const STEP: u32 = 64;

/// Nobody else is there.
impl Hold for State {
    fn state(&mut self) -> &mut State {
        self
    }

    fn in_company(&mut self, read: &mut dyn FnMut(&State)) {
        read(self);
    }

    fn breathe(&mut self) {}
}

/// Reads, in company where it may be `long`.
pub(super) fn look<R>(hold: &mut dyn Hold, long: bool, read: impl FnOnce(&State) -> R) -> R {
    if !long {
        return read(hold.state());
    }
    let (mut read, mut found) = (Some(read), None);
    hold.in_company(&mut |state| {
        found = read.take().map(|read| read(state));
    });
    found.expect("whatever holds the state calls it once")
}
