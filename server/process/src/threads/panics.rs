//! The panic hook: it runs where the panic happens, before anything is unwound and whatever would
//! catch it (tokio catches every task's), so nothing can go on without what panicked.

use std::panic::{Location, PanicHookInfo};

use super::caller::is_for_caller;
use crate::fatal::end_process;

const ADVICE: &str =
    "this is a bug: keep the data directory and the log, report it, and start the member again";

/// From now on a panic ends the process by status 134, with a line that says why; but in work for
/// one caller, where it is logged. For the program's start: it holds for the whole process.
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let place = info
            .location()
            .map_or_else(String::new, Location::to_string);
        let said = said(info);
        if is_for_caller() {
            crate::log!(
                error,
                "a call panicked and is answered with an error; this is a bug: report it",
                error = said,
                place = place,
                thread = thread
            );
            return;
        }
        end_process(format_args!("{thread} panicked: {said} ({place})"), ADVICE);
    }));
}

/// A panic's message on one line.
fn said(info: &PanicHookInfo<'_>) -> String {
    let said = info.payload_as_str().unwrap_or("no message");
    said.replace('\n', " ")
}
