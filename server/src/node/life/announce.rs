//! What the service manager is told on `NOTIFY_SOCKET` (systemd's `Type=notify`): that the member
//! serves, and that it stops. Without the variable nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc;
use std::time::Duration;

use sd_notify::NotifyState;

const VARIABLE: &str = "NOTIFY_SOCKET";
/// How long the manager may take to take a message: a socket that nobody reads holds up nothing.
const TOLD_LIMIT: Duration = Duration::from_secs(1);

/// The member serves.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The member stops.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'static>) {
    let Some(socket) = std::env::var_os(VARIABLE).filter(|socket| !socket.is_empty()) else {
        return;
    };
    crate::log!(info, "notifying init daemon");
    let (told, wait) = mpsc::channel();
    let message = state.to_string();
    let telling = crate::threads::spawn("engram-notify", move || {
        // Whoever does not take the message makes no member sick.
        crate::threads::idle();
        // Nobody waits any more where it took too long.
        let _ = told.send(send(&socket, state));
    });
    let sent = match telling {
        Ok(_) => wait.recv_timeout(TOLD_LIMIT).unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nobody takes the message",
            ))
        }),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => crate::log!(info, "successfully notified init daemon", state = message),
        Err(error) => {
            crate::log!(error, "failed to notify init daemon", state = message, error = %error);
        }
    }
}

/// Sends one message. A name that begins with `@` is one of Linux' abstract sockets, which the crate
/// does not know.
fn send(socket: &OsStr, state: NotifyState<'_>) -> io::Result<()> {
    let Some(name) = socket.as_bytes().strip_prefix(b"@") else {
        return sd_notify::notify(&[state]);
    };
    let address = SocketAddr::from_abstract_name(name)?;
    let message = format!("{state}\n");
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_socket_hears_it() {
        let name = format!("engram-announce-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), NotifyState::Stopping).unwrap();
        let mut message = [0; 64];
        let len = heard.recv(&mut message).unwrap();
        assert_eq!(&message[..len], b"STOPPING=1\n");
    }
}
