//! The access logs of one thread: one a file, whichever hosts write to it.

use std::io;

use super::{AccessLog, Format, Line, Record};

/// Open logs, by number. A log stays open once it is, since lines may wait for it.
#[derive(Debug, Default)]
pub struct AccessLogs {
    logs: Vec<(String, AccessLog)>,
}

impl AccessLogs {
    /// The number of the log in the file `path`, which is opened unless it is. Whoever opens it first says
    /// its format.
    ///
    /// # Errors
    /// As [`AccessLog::open`].
    pub fn open(&mut self, path: &str, format: Format) -> io::Result<usize> {
        if let Some(number) = self.logs.iter().position(|(other, _)| other == path) {
            return Ok(number);
        }
        self.logs.push((path.to_owned(), AccessLog::open(path, format)?));
        Ok(self.logs.len() - 1)
    }

    /// Whether nothing is written down.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// As [`AccessLog::line`], for that log.
    pub fn line(&self, number: usize, unix: u64, record: &Record<'_>) -> Option<Line> {
        let (_, log) = self.logs.get(number)?;
        Some(Line { log: number, ..log.line(unix, record) })
    }

    /// Writes a line down in its log.
    pub fn write(&mut self, line: &Line, body_bytes: u64) {
        if let Some((_, log)) = self.logs.get_mut(line.log) {
            log.write(line, body_bytes);
        }
    }

    /// Writes out what is buffered.
    pub fn flush(&mut self) {
        self.logs.iter_mut().for_each(|(_, log)| log.flush());
    }

    /// Goes on in the files that have the logs' names now.
    pub fn reopen(&mut self) {
        self.logs.iter_mut().for_each(|(_, log)| log.reopen());
    }
}
