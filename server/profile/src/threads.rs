//! What the threads do at this moment, as the system sees it: for whoever sends SIGQUIT to a member that
//! does not answer, or asks one that does.

use std::fmt::Write;

use crate::format::{Line, Profile};

/// Threads that are told of; a member has some dozens.
const THREADS_MAX: usize = 4096;

/// A thread, as the system sees it.
struct Thread {
    id: u32,
    name: String,
    /// Whether it runs, or what it waits for.
    state: &'static str,
    /// Where in the kernel it waits, if the kernel tells.
    place: Option<String>,
    /// How long it has run.
    millis: u64,
}

/// In the form of Go's dump, without its stacks: for each thread its number, whether it runs or what it
/// waits for in the kernel, its name, and how long it has run.
pub fn text() -> String {
    let mut text = String::new();
    for thread in threads() {
        let Thread {
            id,
            name,
            state,
            place,
            millis,
        } = thread;
        let place = place.map_or_else(String::new, |place| format!(", {place}"));
        write!(
            text,
            "\nthread {id} [{state}{place}]:\n{name}\n\tran {millis} ms\n"
        )
        .expect("a string takes what is written to it");
    }
    text
}

/// As a profile: each thread's stack is what it waits for, and its name.
pub fn profile() -> Vec<u8> {
    let mut profile = Profile::of(&[("goroutine", "count")]);
    for thread in threads() {
        let waits = thread.place.as_deref().unwrap_or(thread.state);
        let stack = [waits, &thread.name].map(|name| vec![Line::named(name)]);
        profile.add(&stack, vec![1], Some(&thread.name));
    }
    profile.encode()
}

fn threads() -> impl Iterator<Item = Thread> {
    let ids = crate::fs::thread_ids().into_iter().take(THREADS_MAX);
    ids.filter_map(|id| {
        let of = |what: &str| crate::fs::read_text(&format!("/proc/self/task/{id}/{what}"));
        let state = state(&of("stat")?);
        let name = of("comm").unwrap_or_default();
        let ran = of("schedstat").unwrap_or_default();
        let ran = ran.split(' ').next().unwrap_or_default();
        Some(Thread {
            id,
            name: name.trim_end_matches('\n').to_owned(),
            state,
            place: of("wchan").filter(|place| !place.is_empty() && place != "0"),
            millis: ran.parse::<u64>().unwrap_or_default() / 1_000_000,
        })
    })
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
        let text = text();
        assert!(text.contains("\nwaits (for) it\n\tran "), "{text}");
        let samples = crate::format::told(&profile());
        let told = |sample: &&crate::format::Told| sample.2.as_deref() == Some("waits (for) it");
        assert_eq!(samples.iter().filter(told).count(), 1, "{samples:#?}");
        assert!(text.contains(" [running"), "{text}");
        drop(sender);
        thread.join().unwrap().unwrap_err();
    }
}
