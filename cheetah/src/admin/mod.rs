//! What whoever runs a server looks at: counters for Prometheus, whether it lives and takes requests, a page
//! that draws.
//!
//! It is a store like any other, served by a server of its own on the kernel's sockets, so that it answers
//! however busy the others are.
//!
//! ```text
//!   /          a page that draws what /events tells          /metrics   the counters, as OpenMetrics has them
//!   /events    the counters, a server-sent event a second    /healthz   200 as long as the process lives
//!   /counters  the counters, as JSON                         /readyz    503 once it finishes what it has begun
//! ```

mod metrics;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fsstack::cache::BlockReader;

use crate::http::response::Status;
use crate::server::Monitor;
use crate::store::{Feed, Found, Made, Store};

/// The pages about a server.
#[derive(Debug)]
pub struct Admin {
    monitor: Monitor,
    feed: Arc<Feed>,
}

impl Admin {
    /// Pages about what `monitor` watches and `feed` tells.
    pub fn new(monitor: Monitor, feed: Arc<Feed>) -> Admin {
        Admin { monitor, feed }
    }
}

impl Store for Admin {
    fn look_up(&self, path: &[u8], _reader: &BlockReader) -> Found {
        let (content_type, text) = match path {
            b"/" => ("text/html; charset=utf-8", include_str!("page.html").to_owned()),
            b"/events" => return Found::Growing(self.feed.clone()),
            b"/counters" => ("application/json", self.monitor.report().to_json().to_string()),
            b"/metrics" => (metrics::CONTENT_TYPE, metrics::encode(&self.monitor.report())),
            b"/healthz" => ("text/plain; charset=utf-8", "alive\n".to_owned()),
            b"/readyz" if self.monitor.is_draining() => return Found::Failed(Status::ServiceUnavailable),
            b"/readyz" => ("text/plain; charset=utf-8", "ready\n".to_owned()),
            _ => return Found::Nothing,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Found::File(Arc::new(Made::new(content_type, text.into_bytes(), now)))
    }
}
