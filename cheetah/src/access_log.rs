//! The access log: one line a response, in the common combined format or as JSON.
//!
//! Lines gather in a buffer and go out when it is full or when the transport has nothing else to do. A line
//! is made when a response is queued, and written down when the peer has taken it, or the connection is over:
//! the bytes it says are those of the body that went out. What came from outside is escaped, so a line is
//! always one line and a field never ends early.

mod several;

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::http::date;
use crate::http::request::{Request, Version};
use crate::http::response::Status;

pub use several::AccessLogs;

/// Buffered bytes after which the log is written out at once.
const FLUSH_BYTES: usize = 64 * 1024;

/// What is kept for a reader of a FIFO that is slow; lines beyond it are lost, and counted.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache's combined log format.
    Combined,
    /// An object a line.
    Json,
}

/// Who is at the other end, for the log.
pub type Peer = Option<SocketAddr>;

/// One response, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The client.
    pub peer: Peer,
    /// The method as sent; empty if there was no request to speak of.
    pub method: &'a str,
    /// The target as sent.
    pub target: &'a str,
    /// The version that it came by; `None` if there was no request to speak of.
    pub version: Option<Version>,
    /// What came instead of a request, as far as it was read.
    pub instead: &'a [u8],
    /// What was answered; `None` while nobody knows ([`Line::set_status`]).
    pub status: Option<Status>,
    /// `Referer`.
    pub referer: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
}

impl<'a> Record<'a> {
    /// Of `request`, whose answer nobody knows yet.
    pub fn of_request(peer: Peer, request: &Request<'a>) -> Record<'a> {
        Record {
            peer,
            method: request.method_name,
            target: request.target,
            version: Some(request.version),
            instead: b"",
            status: None,
            referer: request.referer,
            user_agent: request.user_agent,
        }
    }

    /// Of what came `instead` of a request.
    pub fn of_none(peer: Peer, instead: &'a [u8]) -> Record<'a> {
        Record {
            peer,
            method: "",
            target: "",
            version: None,
            instead,
            status: None,
            referer: b"",
            user_agent: b"",
        }
    }

    /// The same, answered with `status`.
    #[must_use]
    pub fn with(self, status: Status) -> Record<'a> {
        Record { status: Some(status), ..self }
    }
}

/// A line of the log, all but the number of bytes.
#[derive(Debug)]
pub struct Line {
    text: Vec<u8>,
    /// Which of several logs it is for.
    log: usize,
    /// Where the number goes.
    number_at: usize,
    /// Where the three digits of the status stand.
    status_at: usize,
}

/// The status in a line whose response was never made: the client went before there was one.
const NO_STATUS: u16 = 499;

impl Line {
    /// Says what was answered, which was not known when the line was made.
    pub fn set_status(&mut self, code: u16) {
        let digits = format!("{code:03}");
        if let Some(place) = self.text.get_mut(self.status_at..self.status_at + 3) {
            place.copy_from_slice(&digits.as_bytes()[..3]);
        }
    }
}

fn code(record: &Record<'_>) -> u16 {
    record.status.map_or(NO_STATUS, Status::code)
}

/// An open log.
pub struct AccessLog {
    out: Box<dyn Write + Send>,
    /// Where it is opened again; empty for what is no file.
    path: String,
    format: Format,
    buffer: Vec<u8>,
    failed: bool,
    /// Lines that the reader was too slow for, since that was last told.
    lost: u64,
}

impl AccessLog {
    /// A log that writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, format: Format) -> AccessLog {
        let buffer = Vec::with_capacity(FLUSH_BYTES + 4096);
        AccessLog { out, path: String::new(), format, buffer, failed: false, lost: 0 }
    }

    /// A log appended to the file `path`, or to standard output for `-`. A FIFO is never waited for: without
    /// a reader it is an error, and for a slow one lines wait, and are lost at last.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &str, format: Format) -> io::Result<AccessLog> {
        if path == "-" {
            return Ok(AccessLog::new(Box::new(io::stdout()), format));
        }
        let mut log = AccessLog::new(Box::new(open(path)?), format);
        path.clone_into(&mut log.path);
        Ok(log)
    }

    /// Goes on in the file that has the log's name now; what renamed the old one may take it away then. If
    /// there cannot be one, the old one is written on.
    pub fn reopen(&mut self) {
        if self.path.is_empty() {
            return;
        }
        self.flush();
        match open(&self.path) {
            Ok(file) => (self.out, self.failed) = (Box::new(file), false),
            Err(error) => tracing::error!("the access log {} cannot be opened again: {error}", self.path),
        }
    }

    /// The line for `record`, which came at the second `unix` since 1970.
    pub fn line(&self, unix: u64, record: &Record<'_>) -> Line {
        match self.format {
            Format::Combined => combined(unix, record),
            Format::Json => json(unix, record),
        }
    }

    /// Writes down that `body_bytes` of a body went out.
    pub fn write(&mut self, line: &Line, body_bytes: u64) {
        if self.buffer.len() >= MAX_WAITING_BYTES {
            self.lost += 1;
            return;
        }
        let (before, after) = line.text.split_at(line.number_at);
        self.buffer.extend_from_slice(before);
        put(&mut self.buffer, format_args!("{body_bytes}"));
        self.buffer.extend_from_slice(after);
        if self.buffer.len() >= FLUSH_BYTES {
            self.flush();
        }
    }

    /// Writes out what is buffered. A log that cannot be written is reported once and then dropped: the
    /// server lives on.
    pub fn flush(&mut self) {
        let mut done = 0;
        while done < self.buffer.len() && !self.failed {
            match self.out.write(&self.buffer[done..]) {
                Ok(0) => self.fail(&ErrorKind::WriteZero.into()),
                Ok(len) => done += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.fail(&error),
            }
        }
        if done > 0
            && let Err(error) = self.out.flush()
        {
            self.fail(&error);
        }
        if self.failed || done == self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..done);
        }
        if self.lost > 0 && self.buffer.is_empty() {
            tracing::warn!("{} requests are not in the access log: its reader was too slow", self.lost);
            self.lost = 0;
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        tracing::error!("the access log cannot be written and stops here: {error}");
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.format).field("failed", &self.failed).finish()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open(path: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => Ok(file.into()),
        Err(Errno::NXIO) => Err(io::Error::other("nobody reads this FIFO: start its reader first")),
        Err(error) => Err(error.into()),
    }
}

fn combined(unix: u64, record: &Record<'_>) -> Line {
    let mut text = Vec::with_capacity(200);
    let out = &mut text;
    match record.peer {
        Some(peer) => put(out, format_args!("{}", peer.ip())),
        None => out.push(b'-'),
    }
    // `Sun, 06 Nov 1994 08:49:37 GMT` has all that `06/Nov/1994:08:49:37 +0000` needs.
    let date = date::format(unix);
    out.extend_from_slice(b" - - [");
    for (part, end) in [(5..7, b'/'), (8..11, b'/'), (12..16, b':'), (17..25, b' ')] {
        out.extend_from_slice(&date[part]);
        out.push(end);
    }
    out.extend_from_slice(b"+0000] \"");
    match record.version {
        Some(version) => {
            escape(out, record.method.as_bytes());
            out.push(b' ');
            escape(out, record.target.as_bytes());
            put(out, format_args!(" {}", version.name()));
        }
        None => or_dash(out, record.instead),
    }
    put(out, format_args!("\" {} ", code(record)));
    let number_at = out.len();
    let status_at = number_at - 4;
    out.extend_from_slice(b" \"");
    or_dash(out, record.referer);
    out.extend_from_slice(b"\" \"");
    or_dash(out, record.user_agent);
    out.extend_from_slice(b"\"\n");
    Line { text, log: 0, number_at, status_at }
}

fn json(unix: u64, record: &Record<'_>) -> Line {
    let fields = serde_json::json!({
        "time": unix,
        "peer": record.peer.map(|peer| peer.to_string()),
        "method": record.method,
        "target": record.target,
        "version": record.version.map(|version| &version.name()[5..]),
        "status": code(record),
        "instead": String::from_utf8_lossy(record.instead),
        "referer": String::from_utf8_lossy(record.referer),
        "user_agent": String::from_utf8_lossy(record.user_agent),
    });
    // One more field, ahead of the others.
    let fields = fields.to_string();
    let mut text = b"{\"bytes\":".to_vec();
    let number_at = text.len();
    put(&mut text, format_args!(",{}\n", fields.trim_start_matches('{')));
    // Within strings quotes are escaped, so this is the field.
    let status_at = memchr::memmem::find(&text, b"\"status\":").map_or(text.len(), |at| at + 9);
    Line { text, log: 0, number_at, status_at }
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}

fn or_dash(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() { out.push(b'-') } else { escape(out, text) }
}

/// As Apache does: quotes and backslashes escaped, other bytes outside of visible ASCII as `\xhh`.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for &b in text {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b' '..=b'~' => out.push(b),
            _ => put(out, format_args!("\\x{b:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>() -> Record<'a> {
        Record {
            peer: Some(([192, 0, 2, 7], 4711).into()),
            method: "GET",
            target: "/a\"b",
            version: Some(Version::Http11),
            instead: b"",
            status: Some(Status::Ok),
            referer: b"",
            user_agent: b"x\ny\\\xff",
        }
    }

    fn written(format: Format, record: &Record<'_>) -> String {
        let mut log = AccessLog::new(Box::new(io::sink()), format);
        let line = log.line(784_111_777, record);
        log.write(&line, 123);
        String::from_utf8(std::mem::take(&mut log.buffer)).unwrap()
    }

    #[test]
    fn combined_line() {
        assert_eq!(
            written(Format::Combined, &record()),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a\\\"b HTTP/1.1\" 200 123 \"-\" \"x\\x0ay\\\\\\xff\"\n"
        );
        let refused = Record { version: None, method: "", target: "", instead: b"\x16\x03 \"", ..record() };
        assert!(written(Format::Combined, &refused).contains("] \"\\x16\\x03 \\\"\" 200 "));
    }

    #[test]
    fn a_status_that_was_not_known_is_told_later() {
        for format in [Format::Combined, Format::Json] {
            let known = written(format, &Record { target: "/\"status\":", ..record() });
            let unknown = Record { status: None, target: "/\"status\":", ..record() };
            assert!(written(format, &unknown).contains("499"));
            let mut log = AccessLog::new(Box::new(io::sink()), format);
            let mut line = log.line(784_111_777, &unknown);
            line.set_status(200);
            log.write(&line, 123);
            assert_eq!(String::from_utf8(std::mem::take(&mut log.buffer)).unwrap(), known);
        }
    }

    fn line_count(path: &std::path::Path) -> usize {
        std::fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn a_renamed_log_is_left_when_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (now, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut log = AccessLog::open(now.to_str().unwrap(), Format::Combined).unwrap();
        let line = log.line(0, &record());
        log.write(&line, 1);
        std::fs::rename(log.path.clone(), &old).unwrap_or_else(|_| panic!("opening makes the file"));
        log.write(&line, 1);
        log.reopen();
        assert_eq!(line_count(&old), 2);
        log.write(&line, 1);
        drop(log);
        assert_eq!((line_count(&old), line_count(&now)), (2, 1));
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        let refused = AccessLog::open(path.to_str().unwrap(), Format::Combined).unwrap_err();
        assert!(refused.to_string().contains("start its reader"), "{refused}");
        // A reader that does not read: lines wait, then they are lost, and nothing blocks.
        let reader = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let mut log = AccessLog::open(path.to_str().unwrap(), Format::Combined).unwrap();
        let line = log.line(0, &record());
        let lines = 2 * MAX_WAITING_BYTES as u64 / 64;
        (0..lines).for_each(|_| log.write(&line, 1));
        assert!(log.lost > 0 && log.buffer.len() < MAX_WAITING_BYTES + 4096);
        let mut reader = File::from(reader);
        let (mut read, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while !log.buffer.is_empty() || log.lost > 0 {
            log.flush();
            while let Ok(len @ 1..) = io::Read::read(&mut reader, &mut buffer) {
                read.extend_from_slice(&buffer[..len]);
            }
        }
        // Those that are there are whole.
        let one =
            written(Format::Combined, &record()).replace("06/Nov/1994:08:49:37", "01/Jan/1970:00:00:00");
        let one = one.replace(" 123 ", " 1 ");
        assert!(read.chunks(one.len()).all(|line| line == one.as_bytes()));
        assert!(((read.len() / one.len()) as u64) < lines);
    }

    #[test]
    fn json_line() {
        let line = written(Format::Json, &record());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["status"], &value["bytes"]), (&200.into(), &123.into()));
        assert_eq!(value["target"], "/a\"b");
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
    }
}
