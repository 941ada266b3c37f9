//! The end of a connection that is refused: the other end shall read an end, not a reset.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the other end's last bytes are waited for.
const LINGER: Duration = Duration::from_millis(500);
/// How many of them are read at most.
const LINGER_BYTES_MAX: usize = 64 << 10;

/// Ends a connection whose bytes are of no use: says that nothing more comes, then reads what is on
/// its way. Closing with bytes unread would make the system send a reset, which may overtake what
/// was said last (an alert).
pub(super) async fn close(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let drain = async {
        if io.shutdown().await.is_err() {
            return;
        }
        let mut chunk = [0; 1024];
        let mut read = 0;
        while read < LINGER_BYTES_MAX {
            match io.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(more) => read += more,
            }
        }
    };
    // Whoever goes on talking is cut off.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
