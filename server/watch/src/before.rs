//! Reading the values before events that memory does not hold: once an event, whichever streams
//! want it, and never on the thread of a connection, where one slow read would hold up every call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Store;
use super::event::{EventList, Published};

/// Events of a response whose values before are being read.
pub(super) type Fetching = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads what the events' values before need of storage; none where that is nothing, which it
/// nearly always is.
pub(super) fn fetch(store: &Arc<dyn Store>, events: &EventList) -> Option<Fetching> {
    let lack = |event: &&Arc<Published>| event.lacks_before();
    let events: Vec<_> = events.as_slice().iter().filter(lack).cloned().collect();
    if events.is_empty() {
        return None;
    }
    let store = store.clone();
    Some(Box::pin(async move {
        for event in events {
            event.fetch_before(&store).await;
        }
    }))
}

/// Runs a read on a thread for blocking work.
pub(super) async fn away<R: Send + 'static>(read: impl FnOnce() -> R + Send + 'static) -> R {
    match crate::threads::spawn_blocking(read).await {
        Ok(read) => read,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down: nobody waits for what comes next.
        Err(_) => std::future::pending().await,
    }
}
