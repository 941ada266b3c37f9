//! Progress bars on standard error. Where that is no terminal, one line a stage.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Duration;

use engram_backup::Progress;
use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(120);
const WITH_TOTAL: &str = "{msg:10} {bar:30} {binary_bytes:>10}/{binary_total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4}";
const WITHOUT_TOTAL: &str = "{msg:10} {spinner} {binary_bytes:>10} {binary_bytes_per_sec:>12}";

/// Shows an operation's stages, one bar each.
pub struct Bars(Mutex<Option<ProgressBar>>);

impl Bars {
    /// Nothing is shown before the first stage.
    pub fn new() -> Bars {
        Bars(Mutex::new(None))
    }

    fn replace(&self, next: Option<ProgressBar>) {
        // A panic elsewhere has nothing to do with what is shown.
        let mut bar = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(bar) = std::mem::replace(&mut *bar, next) {
            bar.finish();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.replace(None);
    }
}

impl Progress for Bars {
    fn begin(&self, stage: &str, total: Option<u64>) {
        if !std::io::stderr().is_terminal() {
            eprintln!(
                "{stage}{}",
                total
                    .map(|total| format!(": {total} bytes"))
                    .unwrap_or_default()
            );
            return;
        }
        let (bar, style) = match total {
            Some(total) => (ProgressBar::new(total), WITH_TOTAL),
            None => (ProgressBar::no_length(), WITHOUT_TOTAL),
        };
        bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
        bar.set_message(stage.to_owned());
        bar.enable_steady_tick(TICK);
        self.replace(Some(bar));
    }

    fn advance(&self, bytes: u64) {
        let bar = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(bar) = &*bar {
            bar.inc(bytes);
        }
    }
}
