//! Libraries that look for `getrandom` by its name at run time have to find the simulator's.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-tests=-rdynamic");
}
