//! Reproducible randomness: a seed that is printed repeats every choice.

/// SplitMix64: small, fast and good enough to choose operations. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The seed that the environment variable names, else one from the clock; printed in any case.
    ///
    /// # Panics
    /// If the variable holds no number.
    pub fn seed_from(variable: &str) -> u64 {
        let seed = number_from(variable).unwrap_or_else(|| {
            let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let since_epoch = since_epoch.expect("the clock is behind 1970");
            since_epoch.as_secs() ^ (u64::from(since_epoch.subsec_nanos()) << 32)
        });
        println!("seed {seed} ({variable}={seed} repeats the choices)");
        seed
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..limit`; `limit` is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// A place in a list of `count`, which is at least 1.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn place(&mut self, count: usize) -> usize {
        let limit = u64::try_from(count).expect("lists are shorter than that");
        usize::try_from(self.below(limit)).expect("it is below `count`")
    }

    /// Whether something with a chance of `percent` happens.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Bytes that no compressor shortens.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = count.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.bits().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }

    /// A sequence of its own, for a thread or task.
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }
}

/// The number in an environment variable, if it is set.
///
/// # Panics
/// If it is set and no number.
pub fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is {text:?}, which is not a number")))
}
