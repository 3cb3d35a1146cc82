//! A program that is started for each request (RFC 3875): the way it was before programs lived on, and what
//! the others are measured against.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use runtime::time::Instant;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};

use super::ask::Ask;
use super::link::{Exchange, Fate, Link, Read, Tools};
use super::route::Limits;
use crate::http::response::Status;

/// The program, and what it writes.
#[derive(Debug)]
pub(super) struct CgiLink {
    output: OwnedFd,
    child: Option<Child>,
    exchange: Option<Exchange>,
    readable: bool,
    active: Instant,
    held_back: bool,
}

impl CgiLink {
    /// Starts the program in `dir` that the path names.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, else whatever the system says.
    pub(super) fn start(dir: &Path, prefix: &str, ask: &Ask, now: Instant) -> io::Result<CgiLink> {
        let rest = ask.params.get(b"PATH_INFO").unwrap_or_default();
        let mut names = rest.strip_prefix(b"/").unwrap_or(rest).splitn(2, |&b| b == b'/');
        let name = names.next().unwrap_or_default();
        let info = if names.next().is_some() { &rest[name.len() + 1..] } else { &b""[..] };
        // The path is canonical: no name is `..`, and what begins with a dot is nobody's business.
        if name.is_empty() || name.starts_with(b".") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = dir.join(std::ffi::OsStr::from_bytes(name));
        let facts = path.symlink_metadata()?;
        if !facts.is_file() || facts.permissions().mode() & 0o111 == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Content in a file without a name: the program reads it as it likes, and nobody has to write to it
        // meanwhile.
        let mut input = File::from(memfd_create("content", MemfdFlags::CLOEXEC)?);
        for slice in ask.content.slices() {
            input.write_all(slice.bytes())?;
        }
        input.rewind()?;
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let os = std::ffi::OsStr::from_bytes;
        let mut command = Command::new(&path);
        command.env_clear().current_dir(dir).stdin(Stdio::from(input)).stdout(Stdio::from(theirs));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(ask.params.iter().map(|(name, value)| (os(name), os(value))));
        command.env("SCRIPT_NAME", os(&[prefix.as_bytes(), b"/", name].concat())).env("PATH_INFO", os(info));
        command.env("SCRIPT_FILENAME", &path);
        let child = Some(command.spawn()?);
        Ok(CgiLink { output, child, exchange: None, readable: true, active: now, held_back: false })
    }

    fn fail(&mut self, status: Status, why: &str) -> Fate {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
        if let Some(exchange) = self.exchange.take() {
            exchange.fail(status, why);
        }
        Fate::Close
    }
}

impl Link for CgiLink {
    fn give(&mut self, exchange: Exchange, now: Instant) {
        self.exchange = Some(exchange);
        self.active = now;
    }

    fn room(&self) -> usize {
        0
    }

    fn silent_since(&self) -> Option<Instant> {
        None
    }

    fn on_ready(&mut self, readable: bool, _writable: bool) {
        self.readable |= readable;
    }

    fn turn(&mut self, tools: &mut Tools) -> Fate {
        while self.readable {
            let Some(exchange) = &mut self.exchange else { return Fate::Close };
            if exchange.output.is_gone() {
                return self.fail(Status::BadGateway, "its client went");
            }
            self.held_back = !exchange.output.has_room();
            if self.held_back {
                return Fate::Keep;
            }
            match tools.read(&self.output) {
                Read::Bytes(bytes) => {
                    self.active = tools.now;
                    if let Err(bad) = exchange.output.take(bytes) {
                        return self.fail(Status::BadGateway, &bad.to_string());
                    }
                }
                Read::Nothing => self.readable = false,
                Read::NoBuffer => return Fate::Keep,
                Read::End | Read::Broken => {
                    if let Some(exchange) = self.exchange.take() {
                        exchange.output.finish();
                    }
                    return Fate::Close;
                }
            }
        }
        if self.exchange.as_ref().is_some_and(|exchange| exchange.output.is_gone()) {
            return self.fail(Status::BadGateway, "its client went");
        }
        if self.deadline(&tools.limits).is_some_and(|deadline| tools.now >= deadline) {
            return self.fail(Status::GatewayTimeout, "it is silent");
        }
        Fate::Keep
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        (!self.held_back).then(|| self.active + limits.timeout)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }

    fn give_up(mut self: Box<Self>) {
        if self.exchange.is_some() {
            self.fail(Status::ServiceUnavailable, "the server ends");
        }
    }
}
