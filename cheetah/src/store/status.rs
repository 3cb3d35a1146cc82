//! The counters of a running server as a document that never ends: an event a second for everyone who
//! listens.
//!
//! Server-sent events (the HTML standard, section 9.2), so that a browser's `EventSource` reads them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use fsstack::cache::BlockReader;
use runtime::buffer::{Shared, Slice};

use super::{Found, Growing, Listed, Store};
use crate::live::{self, Receiver, SendError, Sender};
use crate::rules::Rules;

/// Bytes that wait for one listener. Who takes less than comes misses events.
const LIMIT: usize = 64 * 1024;

/// Who may listen at once; the others' stream ends at once.
const MAX_LISTENERS: usize = 64;

/// What all listeners of a server hear.
#[derive(Debug, Default)]
pub struct Feed {
    listeners: Mutex<Vec<Sender>>,
}

/// A store with a feed at one of its paths.
#[derive(Debug)]
pub struct WithStatus {
    store: Arc<dyn Store>,
    path: String,
    feed: Arc<Feed>,
}

impl Feed {
    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.is_gone());
        !listeners.is_empty()
    }

    /// Tells everyone one event, text without line ends.
    pub fn tell(&self, event: &str) {
        // One buffer for all who listen.
        let event = Shared::from(format!("data: {event}\n\n").into_bytes());
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(Slice::from(event.clone())) != Err(SendError::Gone));
    }

    /// Ends all streams.
    pub fn finish(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        listeners.into_iter().for_each(Sender::finish);
    }
}

impl Growing for Feed {
    fn content_type(&self) -> &str {
        "text/event-stream"
    }

    fn open(&self) -> Receiver {
        let (sender, receiver) = live::channel(LIMIT);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.is_gone());
        if listeners.len() < MAX_LISTENERS {
            listeners.push(sender);
        } else {
            sender.finish();
        }
        receiver
    }
}

impl WithStatus {
    /// `store`, but what is at `path`, which begins with a slash, is `feed`.
    pub fn new(store: Arc<dyn Store>, path: String, feed: Arc<Feed>) -> WithStatus {
        WithStatus { store, path, feed }
    }
}

impl Store for WithStatus {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        if path == self.path.as_bytes() {
            return Found::Growing(self.feed.clone());
        }
        self.store.look_up(path, reader)
    }

    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        self.store.list(path)
    }

    fn rules(&self) -> &Rules {
        self.store.rules()
    }
}
