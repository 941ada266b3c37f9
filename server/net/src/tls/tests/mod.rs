//! Certificates of authorities made here, handshakes over loopback.

mod bounds;
mod handshakes;
mod listeners;
mod outgoing;
mod reload;
mod self_signed;

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::*;
use super::*;
use crate::config::{ListenUrl, TlsFiles, TlsPolicy, TlsVersion};
use crate::{PeerAddress, Socket, Stream};

fn policy() -> TlsPolicy {
    TlsPolicy {
        version_min: TlsVersion::V1_2,
        version_max: None,
        cipher_suites: Vec::new(),
        self_signed_cert_validity_years: 1,
    }
}

fn acceptor(files: &TlsFiles) -> Acceptor {
    Acceptor::new(Side::Client, files, &policy()).unwrap()
}

fn connector(files: &TlsFiles) -> Connector {
    Connector::new(Side::Peer, files, &policy()).unwrap()
}

/// Replaces a file as careful programs do.
fn replace(path: &Path, bytes: impl AsRef<[u8]>) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, bytes).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}
