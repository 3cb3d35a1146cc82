//! Whoever starts and watches a server: sockets that are handed over (`sd_listen_fds(3)`), sockets of the
//! file system, and what is told in return (`sd_notify(3)`).
//!
//! A socket that a supervisor keeps is never closed while one server ends and the next begins: connections
//! wait in its queue.

#![allow(unsafe_code, reason = "a descriptor that a parent has left has no owner until it gets one here")]

use std::env;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::getpid;
use rustix::time::{ClockId, clock_gettime};

use crate::cmd::Usage;

/// The first descriptor that a supervisor hands over.
const FIRST: i32 = 3;

/// More than two have no use.
const MAX_SOCKETS: i32 = 16;

/// Listening sockets that were handed over.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    pub(super) http: Option<OwnedFd>,
    pub(super) https: Option<OwnedFd>,
}

/// Takes the sockets that a supervisor has left for this process: by their names (`FileDescriptorName=http`
/// and `https`), or else the first for HTTP, the second for HTTPS. Call it once.
pub(super) fn handed_over() -> anyhow::Result<HandedOver> {
    let is_ours = env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok());
    let mut found = HandedOver::default();
    if is_ours != Some(getpid().as_raw_nonzero().get()) {
        return Ok(found);
    }
    let count = env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<i32>().ok()).unwrap_or(0);
    if !(0..=MAX_SOCKETS).contains(&count) {
        bail!(Usage(format!(
            "{count} sockets are handed over, but there are two uses: for HTTP and for HTTPS"
        )));
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    for number in 0..count {
        // SAFETY: the supervisor has left this descriptor to this process, by its number, for whoever asks
        // first; nothing else here knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(FIRST + number) };
        let flags =
            fcntl_getfd(&socket).with_context(|| format!("the socket {} is not there", FIRST + number))?;
        // For us and not for programs.
        fcntl_setfd(&socket, flags | FdFlags::CLOEXEC)?;
        let (place, what) = match (names.get(number as usize), number) {
            (Some(&"https"), _) => (&mut found.https, "https"),
            (Some(&"http"), _) | (_, 0) => (&mut found.http, "http"),
            (_, 1) => (&mut found.https, "https"),
            (name, _) => {
                let name = name.copied().unwrap_or_default();
                bail!(Usage(format!("the socket `{name}` is handed over: name it http or https")));
            }
        };
        if place.replace(socket).is_some() {
            bail!(Usage(format!("two sockets are handed over for {what}: one of them has to go")));
        }
    }
    Ok(found)
}

/// A listening socket in the file system, that goes when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number, so that another's socket of that name is left alone.
    id: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`: what is left there of a server that is gone is taken away. Who may enter its folder
    /// may connect.
    pub(super) fn listen(path: &Path) -> anyhow::Result<(SocketFile, OwnedFd)> {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
        if is_socket
            && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            fs::remove_file(path).with_context(|| format!("--listen unix:{}", path.display()))?;
        }
        let listener =
            UnixListener::bind(path).with_context(|| format!("--listen unix:{}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        let meta = fs::symlink_metadata(path)?;
        Ok((SocketFile { path: path.to_owned(), id: (meta.dev(), meta.ino()) }, listener.into()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let meta = fs::symlink_metadata(&self.path);
        if meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What becomes of the server, for whoever started it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// Requests are served.
    Ready,
    /// It takes up what has changed; [`Moment::Ready`] follows.
    Reloading,
    /// It finishes what it has begun.
    Stopping,
}

/// Tells who started the server, if that is to be told (`NOTIFY_SOCKET`).
pub(super) fn notify(moment: Moment) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    let text = match moment {
        Moment::Ready => "READY=1\n".to_owned(),
        Moment::Stopping => "STOPPING=1\n".to_owned(),
        Moment::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let now_us = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000;
            format!("RELOADING=1\nMONOTONIC_USEC={now_us}\n")
        }
    };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        let bytes = name.as_encoded_bytes();
        let addr = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        socket.send_to_addr(text.as_bytes(), &addr)
    });
    if let Err(error) = sent {
        tracing::warn!("NOTIFY_SOCKET {}: {error}", name.to_string_lossy());
    }
}
