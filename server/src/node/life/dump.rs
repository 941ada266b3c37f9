//! What the threads do at this moment, as the system sees it: for whoever sends SIGQUIT to a member that
//! does not answer.

use std::fmt::Write;

/// Threads that are told of; a member has some dozens.
const THREADS_MAX: usize = 4096;

/// In the form of Go's dump, without its stacks: for each thread its number, whether it runs or what it
/// waits for in the kernel, its name, and how long it has run.
pub fn threads() -> String {
    let mut text = String::from("SIGQUIT: quit\n");
    for id in crate::fs::thread_ids().into_iter().take(THREADS_MAX) {
        let of = |what: &str| crate::fs::read_text(&format!("/proc/self/task/{id}/{what}"));
        let Some(stat) = of("stat") else {
            continue;
        };
        let state = state(&stat);
        let waits = of("wchan").filter(|place| !place.is_empty() && place != "0");
        let place = waits.map_or_else(String::new, |place| format!(", {place}"));
        let name = of("comm").unwrap_or_default();
        let ran = of("schedstat").unwrap_or_default();
        let ran = ran.split(' ').next().unwrap_or_default();
        let millis = ran.parse::<u64>().unwrap_or_default() / 1_000_000;
        write!(
            text,
            "\nthread {id} [{state}{place}]:\n{name}\tran {millis} ms\n"
        )
        .expect("a string takes what is written to it");
    }
    text
}

/// The state in words: it stands behind the name, which is in parentheses and may hold anything.
fn state(stat: &str) -> &'static str {
    let behind = stat.rsplit_once(") ").map(|(_, rest)| rest);
    match behind.and_then(|rest| rest.bytes().next()) {
        Some(b'R') => "running",
        Some(b'S') => "sleeping",
        Some(b'D') => "waiting for a disk",
        Some(b'T' | b't') => "stopped",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_is_told_with_its_name() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("waits (for) it".into());
        let (started, has_started) = std::sync::mpsc::channel();
        let thread = thread.spawn(move || {
            started.send(()).unwrap();
            receiver.recv()
        });
        let thread = thread.unwrap();
        // A thread takes its name once it runs.
        has_started.recv().unwrap();
        let text = threads();
        assert!(text.contains("\nwaits (for) it\n\tran "), "{text}");
        assert!(text.contains(" [running"), "{text}");
        drop(sender);
        thread.join().unwrap().unwrap_err();
    }
}
