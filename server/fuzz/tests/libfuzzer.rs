//! The same targets with libFuzzer, which one says `ENGRAM_FUZZ_TARGET`. Before it begins, its seeds and its
//! corpus are written into the directory that `ENGRAM_FUZZ_INPUTS` names. See `make fuzz`.

#![no_main]

#[path = "fuzz/input.rs"]
mod input;
#[path = "fuzz/scratch.rs"]
mod scratch;
#[allow(dead_code, reason = "here inputs are libFuzzer's")]
#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use targets::Target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("ENGRAM_FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| {
        let known = targets::ALL.map(|target| target.name).join(" ");
        panic!("ENGRAM_FUZZ_TARGET={name:?} is none of {known}")
    })
});

fn write_inputs() {
    let Some(dir) = std::env::var_os("ENGRAM_FUZZ_INPUTS") else {
        return;
    };
    for (number, input) in TARGET.corpus().iter().enumerate() {
        let path = Path::new(&dir).join(format!("known-{number:04}"));
        std::fs::write(path, input).expect("the directory of inputs can be written");
    }
}

fuzz_target!(
    init: write_inputs(),
    |bytes: &[u8]| {
        (TARGET.run)(bytes);
    }
);
