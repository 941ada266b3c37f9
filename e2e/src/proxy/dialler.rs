//! Who opened a connection: the kernel knows.

use std::collections::BTreeMap;
use std::fs;

/// The place of the process that owns the connection from `local` to `remote` (ports of 127.0.0.1,
/// as that process sees them); `None` if none of `processes` does.
pub fn place_of(local: u16, remote: u16, processes: &BTreeMap<u32, usize>) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode_of(&table, local, remote)?;
    let socket = format!("socket:[{inode}]");
    let owns = |pid: u32| holds_open(pid, &socket);
    let mut owners = processes.iter().filter(|(pid, _)| owns(**pid));
    owners.next().map(|(_, place)| *place)
}

/// The socket's inode, from the lines `sl local_address rem_address st tx:rx tr:tm retrnsmt uid
/// timeout inode …` of `/proc/net/tcp`, whose addresses are in hexadecimal.
fn inode_of(table: &str, local: u16, remote: u16) -> Option<&str> {
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&local) && fields.get(2)?.ends_with(&remote);
        is_it.then(|| fields.get(9).copied()).flatten()
    })
}

fn holds_open(pid: u32, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut links = descriptors
        .flatten()
        .map(|entry| fs::read_link(entry.path()));
    links.any(|link| link.is_ok_and(|link| link.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_owner_of_a_connection_is_found_and_a_stranger_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let remote = listener.local_addr().expect("it is bound");
        let dialled = TcpStream::connect(remote).expect("it listens");
        let local = dialled.local_addr().expect("it is connected").port();
        let own = BTreeMap::from([(std::process::id(), 7)]);
        assert_eq!(place_of(local, remote.port(), &own), Some(7));
        let of_init = BTreeMap::from([(1, 3)]);
        assert_eq!(place_of(local, remote.port(), &of_init), None);
        drop(dialled);
    }
}
