//! Mistakes that tests plant where something is decided, to see that each of them is found. Outside tests none is ever
//! planted.

/// Lists the mistakes once, for the code that would make them and for the test that goes through all of them.
macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A mistake, named by what it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Mutant {
            $($(#[$doc])* $name,)*
        }

        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[Mutant] = &[$(Mutant::$name,)*];

        #[cfg(test)]
        thread_local! {
            /// The one that is planted now: each test has its thread.
            static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
        }

        /// Plants one, or none, in what this thread decides from now on.
        #[cfg(test)]
        pub(super) fn plant(mutant: Option<Mutant>) {
            PLANTED.set(mutant);
        }

        /// Whether this one is planted.
        #[cfg(test)]
        pub(super) fn planted(mutant: Mutant) -> bool {
            PLANTED.get() == Some(mutant)
        }

        /// Whether this one is planted: never.
        #[cfg(not(test))]
        pub(super) const fn planted(_: Mutant) -> bool {
            false
        }
    };
}

pub(crate) use mutants;
