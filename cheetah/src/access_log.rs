//! The access log: one line a response, in the common combined format or as JSON.
//!
//! Lines gather in a buffer and go out when it is full or when the transport has nothing else to do. A request is written
//! down when its response is queued; the bytes it says are those of the body, as queued. What came from outside is escaped, so
//! a line is always one line and a field never ends early.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;

use crate::http::date;
use crate::http::response::Status;

/// Buffered bytes after which the log is written out at once.
const FLUSH_BYTES: usize = 64 * 1024;

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
    /// HTTP/1.x; `None` if there was no request to speak of.
    pub minor_version: Option<u8>,
    /// What was answered.
    pub status: Status,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// `Referer`.
    pub referer: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
}

/// An open log.
pub struct AccessLog {
    out: Box<dyn Write + Send>,
    format: Format,
    buffer: Vec<u8>,
    failed: bool,
}

impl AccessLog {
    /// A log that writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, format: Format) -> AccessLog {
        AccessLog { out, format, buffer: Vec::with_capacity(FLUSH_BYTES + 4096), failed: false }
    }

    /// A log appended to the file `path`, or to standard output for `-`.
    pub fn open(path: &str, format: Format) -> std::io::Result<AccessLog> {
        let out: Box<dyn Write + Send> = match path {
            "-" => Box::new(std::io::stdout()),
            _ => Box::new(File::options().append(true).create(true).open(path)?),
        };
        Ok(AccessLog::new(out, format))
    }

    /// Writes down `record`, at the second `unix` since 1970.
    pub fn write(&mut self, unix: u64, record: &Record<'_>) {
        match self.format {
            Format::Combined => combined(&mut self.buffer, unix, record),
            Format::Json => json(&mut self.buffer, unix, record),
        }
        if self.buffer.len() >= FLUSH_BYTES {
            self.flush();
        }
    }

    /// Writes out what is buffered. A log that cannot be written is reported once and then dropped: the server lives on.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if !self.failed
            && let Err(error) = self.out.write_all(&self.buffer).and_then(|()| self.out.flush())
        {
            self.failed = true;
            tracing::error!("the access log cannot be written and stops here: {error}");
        }
        self.buffer.clear();
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

fn combined(out: &mut Vec<u8>, unix: u64, record: &Record<'_>) {
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
    match record.minor_version {
        Some(minor) => {
            escape(out, record.method.as_bytes());
            out.push(b' ');
            escape(out, record.target.as_bytes());
            put(out, format_args!(" HTTP/1.{minor}"));
        }
        None => out.push(b'-'),
    }
    put(out, format_args!("\" {} {} \"", record.status.code(), record.body_bytes));
    or_dash(out, record.referer);
    out.extend_from_slice(b"\" \"");
    or_dash(out, record.user_agent);
    out.extend_from_slice(b"\"\n");
}

fn json(out: &mut Vec<u8>, unix: u64, record: &Record<'_>) {
    let line = serde_json::json!({
        "time": unix,
        "peer": record.peer.map(|peer| peer.to_string()),
        "method": record.method,
        "target": record.target,
        "version": record.minor_version.map(|minor| format!("1.{minor}")),
        "status": record.status.code(),
        "bytes": record.body_bytes,
        "referer": String::from_utf8_lossy(record.referer),
        "user_agent": String::from_utf8_lossy(record.user_agent),
    });
    put(out, format_args!("{line}\n"));
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
            minor_version: Some(1),
            status: Status::Ok,
            body_bytes: 123,
            referer: b"",
            user_agent: b"x\ny\\\xff",
        }
    }

    #[test]
    fn combined_line() {
        let mut out = Vec::new();
        combined(&mut out, 784_111_777, &record());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a\\\"b HTTP/1.1\" 200 123 \"-\" \"x\\x0ay\\\\\\xff\"\n"
        );
    }

    #[test]
    fn json_line() {
        let mut out = Vec::new();
        json(&mut out, 784_111_777, &record());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["status"], 200);
        assert_eq!(value["target"], "/a\"b");
        assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 1);
    }
}
