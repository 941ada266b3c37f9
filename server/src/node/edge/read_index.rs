//! Counting the confirmations that linearizable reads wait for.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::api::backend::ServeError;
use crate::metrics::Operations;

/// From here on a confirmation counts as slow: etcd asks again after so long.
const SLOW: Duration = Duration::from_millis(500);

/// Waits for a confirmation and counts it where it was slow or failed.
pub async fn counted(
    operations: &Operations,
    confirmation: impl Future<Output = Result<(), ServeError>>,
) -> Result<(), ServeError> {
    let started = Instant::now();
    let confirmed = confirmation.await;
    let timed_out = matches!(
        confirmed,
        Err(ServeError::Timeout
            | ServeError::TimeoutLeaderFail
            | ServeError::TimeoutConnectionLost
            | ServeError::TimeoutWaitAppliedIndex)
    );
    if timed_out || started.elapsed() >= SLOW {
        operations.read_indexes_slow.inc();
    } else if confirmed.is_err() {
        operations.read_indexes_failed.inc();
    }
    confirmed
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn slow_and_failed_confirmations_are_told_apart() {
        let metrics = Metrics::new();
        let operations = &metrics.operations;
        let counts = || {
            let slow = operations.read_indexes_slow.get();
            (slow, operations.read_indexes_failed.get())
        };
        assert_eq!(counted(operations, ready(Ok(()))).await, Ok(()));
        assert_eq!(counts(), (0, 0));
        let changed = counted(operations, ready(Err(ServeError::LeaderChanged))).await;
        assert_eq!(
            (changed, counts()),
            (Err(ServeError::LeaderChanged), (0, 1))
        );
        let timeout = counted(operations, ready(Err(ServeError::Timeout))).await;
        assert_eq!((timeout, counts()), (Err(ServeError::Timeout), (1, 1)));
        let late = async {
            tokio::time::sleep(SLOW).await;
            Ok(())
        };
        assert_eq!(counted(operations, late).await, Ok(()));
        assert_eq!(counts(), (2, 1));
    }
}
