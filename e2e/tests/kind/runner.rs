//! Runs stories one after the other, has those of one kind share a cluster, and ends with the table.
//!
//! The words of the command line choose: `cargo test … --test kind -- NAME…` runs the stories whose
//! names contain one of them, whatever their part. Flags of Rust's own test runner are put up with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use engram_e2e::kind::artifacts;

use crate::lab::Lab;
use crate::table::{self, Row};

/// Where a story is told.
pub enum Stage {
    /// In clusters that it makes itself.
    Own(fn()),
    /// In the cluster that all of these share.
    Shared(fn(&Lab)),
}

/// A story. Its name begins with `ci::` if `make e2e` runs it, with `full::` if only
/// `make e2e-full` does.
pub struct Story {
    /// The name.
    pub name: &'static str,
    /// How it is told.
    pub stage: Stage,
}

impl Story {
    fn is_wanted(&self, wanted: &Wanted) -> bool {
        match wanted.words.is_empty() {
            true => wanted.full || self.name.starts_with("ci::"),
            false => wanted.words.iter().any(|word| self.name.contains(word)),
        }
    }
}

/// What the command line and the environment ask for.
struct Wanted {
    words: Vec<String>,
    full: bool,
    list: bool,
}

impl Wanted {
    fn read() -> Result<Wanted, String> {
        let known = |flag: &str| {
            let name = flag.split('=').next().unwrap_or_default();
            ["--nocapture", "--test-threads", "--list"].contains(&name)
        };
        let (flags, words): (Vec<String>, Vec<String>) = std::env::args()
            .skip(1)
            .partition(|word| word.starts_with('-'));
        match flags.iter().find(|flag| !known(flag)) {
            Some(unknown) => Err(format!("unknown flag {unknown}")),
            None => Ok(Wanted {
                words,
                full: std::env::var_os("ENGRAM_E2E_FULL").is_some_and(|value| value == "1"),
                list: flags.iter().any(|flag| flag == "--list"),
            }),
        }
    }
}

/// Runs what is asked for; fails if one of it does, or if nothing is.
pub fn run(stories: &[Story]) -> ExitCode {
    let wanted = match Wanted::read() {
        Ok(wanted) => wanted,
        Err(what) => {
            eprintln!("{what}\nusage: kind [--list] [NAME…]");
            return ExitCode::from(2);
        }
    };
    if wanted.list {
        stories
            .iter()
            .for_each(|story| println!("{}: test", story.name));
        return ExitCode::SUCCESS;
    }
    if !stories.iter().any(|story| story.is_wanted(&wanted)) {
        eprintln!(
            "no story is called like {:?}: --list names them",
            wanted.words
        );
        return ExitCode::from(2);
    }
    let mut lab = None;
    let mut failed = Vec::new();
    for story in stories {
        if !story.is_wanted(&wanted) {
            not_run(story, &wanted);
        } else if !is_told(story, &mut lab) {
            failed.push(story.name);
        }
    }
    drop(lab);
    table::finish();
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => {
            println!("failed: {}", failed.join(", "));
            ExitCode::FAILURE
        }
    }
}

fn not_run(story: &Story, wanted: &Wanted) {
    let why = match wanted.words.is_empty() {
        true => "not run here: make e2e-full",
        false => "not asked for",
    };
    table::add(Row {
        story: story.name.to_owned(),
        step: String::new(),
        took: None,
        gaps: None,
        result: why.to_owned(),
    });
}

/// Tells a story; whether it ended well.
fn is_told(story: &Story, lab: &mut Option<Lab>) -> bool {
    println!("\n== {}", story.name);
    crate::steps::of_story(story.name);
    let started = Instant::now();
    let told = catch_unwind(AssertUnwindSafe(|| match story.stage {
        Stage::Own(tell) => {
            // Two clusters at once are too much for a small machine.
            *lab = None;
            tell();
        }
        Stage::Shared(tell) => tell(lab.get_or_insert_with(Lab::create)),
    }));
    if let (Err(_), Stage::Shared(_), Some(lab)) = (&told, &story.stage, &lab) {
        artifacts::keep(lab.kind());
    }
    let took = started.elapsed();
    let result = if told.is_ok() { "ok" } else { "FAILED" };
    println!("{:6.1} s  {}: {result}", took.as_secs_f64(), story.name);
    table::add(Row {
        story: story.name.to_owned(),
        step: String::new(),
        took: Some(took),
        gaps: None,
        result: result.to_owned(),
    });
    told.is_ok()
}
