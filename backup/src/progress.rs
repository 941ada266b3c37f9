//! How far an operation is, for whoever shows it.

/// Told of an operation's stages. Called from any thread.
pub trait Progress: Send + Sync {
    /// A stage begins; `total` is how many bytes it will advance by, where that is known.
    fn begin(&self, stage: &str, total: Option<u64>);

    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}

    fn advance(&self, _: u64) {}
}
