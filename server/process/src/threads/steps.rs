//! Work that goes on in steps, for as long as the member does: on a thread of its own in the product,
//! by the hand of a simulator that runs a whole member on one thread.
//!
//! Whoever starts work sees no difference. A [`Stage`] is entered by a simulator alone; without one
//! every function here looks at one thread-local and does what it does in the product.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::thread::JoinHandle;

use parking_lot::Mutex;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A piece of work was done; there may be more.
    Worked,
    /// There was nothing to do. Never where the step might wait.
    Nothing,
    /// There is no more, and never will be.
    Ended,
}

/// Work in steps.
pub trait Steps: Send + 'static {
    /// Does the next piece of work. Where there is none it waits for some if it `may_wait`.
    fn step(&mut self, may_wait: bool) -> Step;
}

/// Work that was started.
#[derive(Debug)]
pub struct Stepping(Kind);

#[derive(Debug)]
enum Kind {
    Thread(JoinHandle<()>),
    Staged(Staged),
}

/// Starts work that others rely on: on a thread of that name, with a pulse, or on the stage.
///
/// # Errors
/// The system has no thread to give.
pub fn start(name: &str, mut work: impl Steps) -> io::Result<Stepping> {
    if let Some(stage) = Stage::current() {
        return Ok(Stepping(Kind::Staged(stage.add(name, work))));
    }
    let run = move || while work.step(true) != Step::Ended {};
    super::spawn(name, run).map(|thread| Stepping(Kind::Thread(thread)))
}

/// Starts work that one caller waits for: on a thread for blocking work, or on the stage.
pub fn start_blocking(name: &str, mut work: impl Steps) {
    match Stage::current() {
        Some(stage) => drop(stage.add(name, work)),
        None => drop(super::spawn_blocking(move || {
            while work.step(true) != Step::Ended {}
        })),
    }
}

impl Stepping {
    /// Waits for the end of it, unless the caller is that work itself.
    pub fn join(self) {
        match self.0 {
            Kind::Thread(thread) if thread.thread().id() == std::thread::current().id() => {}
            // One that panicked has told so itself.
            Kind::Thread(thread) => drop(thread.join()),
            Kind::Staged(staged) => while staged.step() == Step::Worked {},
        }
    }
}

/// Work on a stage. Clones are one.
#[derive(Clone)]
pub struct Staged {
    name: Arc<str>,
    work: Arc<Mutex<Box<dyn Steps>>>,
    ended: Arc<AtomicBool>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Staged").field(&self.name).finish()
    }
}

impl Staged {
    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does its next piece of work, if there is one.
    pub fn step(&self) -> Step {
        // It is asked from within a step where a callback of its own drops the last handle of it.
        let work = self.work.try_lock();
        let step = work.map_or(Step::Nothing, |mut work| work.step(false));
        if step == Step::Ended {
            self.ended.store(true, Ordering::Relaxed);
        }
        step
    }
}

/// Where a simulator has a member's work done. Clones are one.
#[derive(Clone, Default)]
pub struct Stage(Arc<Scene>);

/// Work that blocks and is done once.
pub type Once = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Scene {
    work: Mutex<Vec<Staged>>,
    /// What no thread for blocking work has begun yet.
    waiting: Mutex<Vec<Once>>,
    /// Whether the member's process has ended.
    ended: AtomicBool,
}

/// What a thread panics with where it would end the process: on a stage only a member's ends.
#[derive(Debug)]
pub struct MemberEnded;

thread_local! {
    static CURRENT: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// While it lives, the stage is that of the calling thread.
#[must_use]
pub struct OnStage(Option<Stage>);

impl Drop for OnStage {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl Stage {
    /// Makes it the calling thread's.
    pub fn enter(&self) -> OnStage {
        OnStage(CURRENT.replace(Some(self.clone())))
    }

    pub(super) fn current() -> Option<Stage> {
        CURRENT.with_borrow(Clone::clone)
    }

    fn add(&self, name: &str, work: impl Steps) -> Staged {
        let staged = Staged {
            name: name.into(),
            work: Arc::new(Mutex::new(Box::new(work))),
            ended: Arc::default(),
        };
        self.0.work.lock().push(staged.clone());
        staged
    }

    /// What was started on it and has not ended, in that order.
    #[must_use]
    pub fn work(&self) -> Vec<Staged> {
        let mut work = self.0.work.lock();
        work.retain(|work| !work.ended.load(Ordering::Relaxed));
        work.clone()
    }

    /// Has work wait until whoever runs the stage takes it.
    pub(super) fn wait(&self, work: Once) {
        self.0.waiting.lock().push(work);
    }

    /// How much waits for a thread for blocking work.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.lock().len()
    }

    /// Takes of that what came `at` so many others: to be done on this stage. There are many such threads, so any
    /// may be the next.
    #[must_use]
    pub fn take_waiting(&self, at: usize) -> Option<Once> {
        let mut waiting = self.0.waiting.lock();
        (at < waiting.len()).then(|| waiting.remove(at))
    }

    /// Forgets what waits: its member's process has ended.
    pub fn forget_waiting(&self) {
        let waiting = std::mem::take(&mut *self.0.waiting.lock());
        drop(waiting);
    }

    /// Whether the member's process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Relaxed)
    }
}

/// Whether the calling thread is a simulator's, with a stage.
#[inline]
#[must_use]
pub fn is_on_stage() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// Whether the calling thread's stage is that of a member whose process has ended: nothing that it still
/// does is to be heard of.
#[must_use]
pub fn has_ended() -> bool {
    CURRENT.with_borrow(|stage| stage.as_ref().is_some_and(Stage::has_ended))
}

/// Ends the process of the calling thread's member, for a simulator that goes on.
pub fn mark_ended() {
    if let Some(stage) = Stage::current() {
        stage.0.ended.store(true, Ordering::Relaxed);
    }
}

/// Ends the process of the calling thread's member, and not that of the simulator. For a thread on a stage.
pub fn end_member() -> ! {
    mark_ended();
    std::panic::panic_any(MemberEnded)
}

/// Waits for what stepped work sends. For the start of a member: it blocks.
///
/// # Errors
/// Nobody is left who could send it.
pub fn receive<T>(receiver: &Receiver<T>) -> Result<T, RecvError> {
    let Some(stage) = Stage::current() else {
        return receiver.recv();
    };
    loop {
        match receiver.try_recv() {
            Ok(received) => return Ok(received),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => {
                let worked = stage.work().iter().any(|work| work.step() == Step::Worked);
                assert!(worked, "what is waited for on this stage never comes");
            }
        }
    }
}
