//! Homes: the connection threads, as other threads reach them.
//!
//! Each connection thread runs a single-threaded runtime. Waking a task of it from outside costs a
//! system call, so a thread that has many tasks to wake (the apply thread, once a batch) posts one
//! job, which wakes them from within.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Something to run on a connection thread: short, never blocking.
pub type Job = Box<dyn FnOnce() + Send>;

/// One of the connection threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HomeId(usize);

thread_local! {
    static CURRENT: Cell<Option<HomeId>> = const { Cell::new(None) };
}

/// The connection thread this is called on; none elsewhere.
pub fn current() -> Option<HomeId> {
    CURRENT.get()
}

/// A caller that waits for an answer, on a connection thread or elsewhere.
pub struct Asker<T> {
    home: Option<HomeId>,
    reply: oneshot::Sender<T>,
}

impl<T> Asker<T> {
    /// One on the thread that calls this, and where it hears.
    pub fn here() -> (Asker<T>, oneshot::Receiver<T>) {
        let (reply, receiver) = oneshot::channel();
        let home = current();
        (Asker { home, reply }, receiver)
    }

    /// Whether it waits on the thread that calls this.
    pub fn is_here(&self) -> bool {
        self.home == current()
    }

    /// Whether it does not wait any more.
    pub fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    fn hears(self, answer: T) {
        // A caller that has gone away is no error.
        drop(self.reply.send(answer));
    }
}

/// The inboxes of all connection threads. Clones share them.
#[derive(Clone)]
pub struct Homes {
    inboxes: Arc<[UnboundedSender<Job>]>,
}

/// One thread's end of its inbox.
pub struct Inbox {
    home: HomeId,
    jobs: UnboundedReceiver<Job>,
}

impl Homes {
    /// Makes `count` inboxes (at least one). Unbounded channels are safe here: a job stands for
    /// requests or streams that are bounded where they were admitted.
    pub fn new(count: usize) -> (Homes, Vec<Inbox>) {
        let pairs = (0..count.max(1)).map(|index| {
            let (sender, jobs) = unbounded_channel();
            (
                sender,
                Inbox {
                    home: HomeId(index),
                    jobs,
                },
            )
        });
        let (inboxes, receivers): (Vec<_>, Vec<_>) = pairs.unzip();
        (
            Homes {
                inboxes: inboxes.into(),
            },
            receivers,
        )
    }

    /// Has `job` run on `home`. A home that has stopped drops it, and with it the callers' channels.
    pub fn post(&self, home: HomeId, job: Job) {
        drop(self.inboxes[home.0].send(job));
    }

    /// Runs `job` once the connection thread that calls this has done what else is ready there: what it hands
    /// to another thread goes together then, and wakes that once. On any other thread it runs at once.
    pub fn at_turns_end(&self, job: impl FnOnce() + Send + 'static) {
        match current() {
            Some(home) => self.post(home, Box::new(job)),
            None => job(),
        }
    }

    /// Answers callers: those of a connection thread by one job of it.
    pub fn answer<T: Send + 'static>(&self, answers: impl IntoIterator<Item = (Asker<T>, T)>) {
        let mut by_home: BTreeMap<HomeId, Vec<(Asker<T>, T)>> = BTreeMap::new();
        for (asker, answer) in answers {
            match asker.home {
                Some(home) => by_home.entry(home).or_default().push((asker, answer)),
                None => asker.hears(answer),
            }
        }
        for (home, answers) in by_home {
            let all_hear = move || {
                for (asker, answer) in answers {
                    asker.hears(answer);
                }
            };
            self.post(home, Box::new(all_hear));
        }
    }
}

impl Inbox {
    /// Makes the calling thread this home. Call it on the thread, before anything is spawned.
    pub fn move_in(&self) {
        CURRENT.set(Some(self.home));
    }

    /// Runs jobs until every [`Homes`] is gone.
    pub async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            job();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_runs_on_the_thread_it_was_posted_to() {
        let (homes, mut inboxes) = Homes::new(2);
        let inbox = inboxes.remove(1);
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            inbox.move_in();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(inbox.run());
        });
        homes.post(HomeId(1), Box::new(move || sender.send(current()).unwrap()));
        assert_eq!(receiver.recv().unwrap(), Some(HomeId(1)));
        assert_eq!(current(), None);
        drop(homes);
        thread.join().unwrap();
    }
}
