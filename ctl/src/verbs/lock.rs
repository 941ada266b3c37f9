//! `lock`: a lock by its name, held until a signal comes, or while a program runs.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use engram_backup::channel::Channel;
use engram_proto::etcdserverpb as pb;
use engram_proto::v3lockpb;
use engram_proto::v3lockpb::lock_client::LockClient;

use super::kv::{self, Text, show_range};
use super::session::{Session, Signals};
use crate::cli::{Global, Lock};
use crate::connect::{any, within};
use crate::failure::Failure;

/// `lock`.
pub async fn lock(global: &Global, lock: Lock) -> Result<(), Failure> {
    let mut signals = Signals::caught()?;
    let channel = any(global).await?.channel;
    let session = Session::begin(global, channel.clone(), lock.ttl).await?;
    let mut client = LockClient::new(channel.clone());
    let request = v3lockpb::LockRequest {
        name: lock.name.into_bytes().into(),
        lease: session.lease(),
    };
    let held = tokio::select! {
        answer = client.lock(request) => answer?.into_inner(),
        () = session.lost(global) => return Err(Failure::new("session expired")),
        () = signals.next() => {
            revoke(global, channel, session.lease()).await?;
            return Err(Failure::new("context canceled"));
        }
    };
    if !lock.command.is_empty() {
        let ended = tokio::select! {
            ended = execute(&lock.command, &held) => ended,
            () = keeping(global, &session) => unreachable!("a session is kept for ever"),
        };
        unlock(global, &mut client, &held).await?;
        return ended;
    }
    let answer = kept(global, channel, &held).await?;
    show_range(global, &answer, || Text::of(global).range(&answer, false))?;
    tokio::select! {
        () = signals.next() => unlock(global, &mut client, &held).await,
        () = session.lost(global) => Err(Failure::new("session expired")),
    }
}

/// Renews the session, and goes on where it is lost: the program that runs is not told.
async fn keeping(global: &Global, session: &Session) {
    session.lost(global).await;
    std::future::pending().await
}

/// The key of a lock that is held.
async fn kept(
    global: &Global,
    channel: Channel,
    held: &v3lockpb::LockResponse,
) -> Result<pb::RangeResponse, Failure> {
    let request = pb::RangeRequest {
        key: held.key.clone(),
        ..pb::RangeRequest::default()
    };
    let mut client = kv::client(global, channel);
    let answer = within(global, client.range(request)).await?.into_inner();
    match answer.kvs.is_empty() {
        true => Err(Failure::new("lock lost on init")),
        false => Ok(answer),
    }
}

async fn unlock(
    global: &Global,
    client: &mut LockClient<Channel>,
    held: &v3lockpb::LockResponse,
) -> Result<(), Failure> {
    let request = v3lockpb::UnlockRequest {
        key: held.key.clone(),
    };
    within(global, client.unlock(request)).await?;
    Ok(())
}

async fn revoke(global: &Global, channel: Channel, id: i64) -> Result<(), Failure> {
    let mut client = pb::lease_client::LeaseClient::new(channel);
    within(global, client.lease_revoke(pb::LeaseRevokeRequest { id })).await?;
    Ok(())
}

/// Runs a program that is told which lock is held. Its exit code becomes ours.
async fn execute(words: &[OsString], held: &v3lockpb::LockResponse) -> Result<(), Failure> {
    let revision = held.header.as_ref().map_or(0, |header| header.revision);
    let key = std::os::unix::ffi::OsStringExt::from_vec(held.key.to_vec());
    let key: OsString = key;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    if std::env::var_os("ETCD_LOCK_KEY").is_none() {
        command.env("ETCD_LOCK_KEY", key);
    }
    if std::env::var_os("ETCD_LOCK_REV").is_none() {
        command.env("ETCD_LOCK_REV", revision.to_string());
    }
    command.stdin(Stdio::null());
    // The session is renewed meanwhile.
    let status = tokio::task::spawn_blocking(move || command.status()).await?;
    let status = status.map_err(|error| {
        let program = &words[0];
        Failure::new(format!("exec: {program:?}: {error}"))
    })?;
    ended(status)
}

/// What a program's end is to us, in Go's words.
fn ended(status: ExitStatus) -> Result<(), Failure> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => {
            let ours = u8::try_from(code).unwrap_or(1);
            Err(Failure::exited(format!("exit status {code}"), ours))
        }
        // Go's exit code of a program that a signal ended is -1.
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Err(Failure::exited(format!("signal: {signal}"), u8::MAX))
        }
    }
}
