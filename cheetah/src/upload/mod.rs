//! Files that clients put and delete: from the head of a request to the disk, and back to an answer.
//!
//! ```text
//!   connection ── Uploads::begin: token, name, size, conditions ──▶ Upload ── Upload::take: copied and summed by one loop
//!       ▲                                                             │       into blocks of a bounded pool
//!       │                                                  whole      ▼
//!     woken ◀── outcome ── Ticket ◀── committer: a thread that owns the log, and makes all that has come
//!                                                                                    one commit, and changes while that is on its way
//! ```
//!
//! The loop that serves never waits for the disk. What does not come whole leaves nothing behind.

mod committer;
mod content;
mod token;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fsstack::path::check_path;
use runtime::buffer::Pool;
use runtime::time::Instant;

use crate::access_log::{Peer, Record};
use crate::http::conditional::KeptConditions;
use crate::http::request::{ContentIs, Method, Request, Version};
use crate::http::response::Status;
use crate::live::ConnectionWaker;
use crate::store::{ChangeMade, Dotfiles, Found, NotMade, Store, WantedChange, Wish};

pub use committer::Committer;
use committer::{Order, Orders};
use content::Content;
pub use content::Taken;
pub use token::{TokenError, Tokens};

/// Bytes of a block.
const BLOCK_BYTES: usize = 32 << 10;

/// How long an upload may take beside its share of [`MIN_RATE`].
const GRACE: Duration = Duration::from_secs(30);

/// Bytes a second that an upload has to bring in the long run.
const MIN_RATE: u64 = 4096;

/// How long an upload may bring nothing.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Bounds of what clients may put.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Bytes of a file.
    pub file_bytes: u64,
    /// Bytes of all files that are on their way, in memory.
    pub memory_bytes: u64,
    /// Whether names may begin with a dot.
    pub dotfiles: Dotfiles,
}

impl Default for UploadLimits {
    fn default() -> UploadLimits {
        UploadLimits { file_bytes: 64 << 20, memory_bytes: 256 << 20, dotfiles: Dotfiles::default() }
    }
}

/// What all loops of a server share of it.
#[derive(Debug)]
pub struct Uploads {
    tokens: RwLock<Tokens>,
    limits: UploadLimits,
    blocks: Pool,
    orders: Orders,
}

/// A file on its way, or a deletion.
#[derive(Debug)]
pub struct Upload {
    /// What was asked, for the answer and the log.
    pub asked: Asked,
    /// Number of the host that was asked.
    pub host: usize,
    path: Vec<u8>,
    conditions: Option<Box<KeptConditions>>,
    is_put: bool,
    content: Content,
    began: Instant,
    last_progress: Instant,
    orders: Orders,
    ticket: Arc<Ticket>,
}

/// What a request said, for when its head is gone.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method as sent.
    pub method: &'static str,
    /// The target as sent.
    pub target: String,
    /// The version that it came by.
    pub version: Version,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
    /// `Referer`.
    pub referer: Vec<u8>,
    /// `User-Agent`.
    pub user_agent: Vec<u8>,
}

/// The committer's hold of a ticket: let go of without an outcome, it says that there is none.
#[derive(Debug)]
struct Promise(Arc<Ticket>);

impl Promise {
    fn keep(self, outcome: Result<ChangeMade, NotMade>) {
        self.0.settle(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.settle(Err(NotMade::Failed));
    }
}

/// Where the committer leaves what a change came to.
#[derive(Debug, Default)]
struct Ticket {
    state: Mutex<TicketState>,
}

#[derive(Debug, Default)]
struct TicketState {
    outcome: Option<Result<ChangeMade, NotMade>>,
    waker: Option<ConnectionWaker>,
}

impl Uploads {
    /// Takes files for `committer`, of who has one of `tokens`.
    pub fn new(committer: &Committer, tokens: Tokens, limits: UploadLimits) -> Uploads {
        let blocks = usize::try_from(limits.memory_bytes / BLOCK_BYTES as u64).unwrap_or(usize::MAX);
        Uploads {
            tokens: RwLock::new(tokens),
            limits,
            blocks: Pool::new(BLOCK_BYTES, blocks.max(1)),
            orders: committer.orders(),
        }
    }

    /// From now on these count.
    pub fn set_tokens(&self, tokens: Tokens) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Begins what `request`, a PUT or DELETE of the canonical `path`, asks for. The conditions are looked at
    /// again when it is made.
    ///
    /// # Errors
    /// What the client is told instead.
    pub fn begin(
        &self,
        store: &dyn Store,
        request: &Request<'_>,
        path: &[u8],
        now: Instant,
    ) -> Result<Upload, Status> {
        if !self.tokens.read().unwrap_or_else(PoisonError::into_inner).allow(request.authorization) {
            return Err(Status::Unauthorized);
        }
        let is_put = request.method == Method::Put;
        let has_content = request.content_length > 0 || request.is_chunked;
        match request.content_is {
            // RFC 9110 section 14.5, and 9.3.5: content means nothing to a DELETE.
            ContentIs::Part => return Err(Status::BadRequest),
            _ if !is_put && has_content => return Err(Status::BadRequest),
            ContentIs::Coded => return Err(Status::UnsupportedMediaType),
            ContentIs::Plain => {}
        }
        let plain = path.strip_prefix(b"/").unwrap_or(path);
        let name = plain.strip_suffix(b"/").unwrap_or(plain);
        if name.is_empty() || (is_put && plain.ends_with(b"/")) {
            return Err(Status::Conflict);
        }
        if check_path(name).is_err() || !self.limits.dotfiles.allow_name(name) {
            return Err(Status::Forbidden);
        }
        if request.content_length > self.limits.file_bytes {
            return Err(Status::ContentTooLarge);
        }
        if !request.conditions.is_empty() {
            let found = match store.find(path) {
                Found::File(document) => Some(document),
                _ => None,
            };
            let current = found.as_ref().map(|document| document.facts().validators);
            if !request.conditions.allow_change(current) {
                return Err(Status::PreconditionFailed);
            }
        }
        let length = match (request.is_chunked, request.version) {
            (false, _) => Some(request.content_length),
            // Frames end it, which bear no bytes of their own here.
            (true, Version::Http2) => Some(u64::MAX),
            (true, _) => None,
        };
        Ok(Upload {
            asked: Asked::of(request),
            host: 0,
            path: name.to_vec(),
            conditions: request.conditions.to_kept(),
            is_put,
            content: Content::new(length, self.limits.file_bytes, self.blocks.clone()),
            began: now,
            last_progress: now,
            orders: self.orders.clone(),
            ticket: Arc::default(),
        })
    }
}

impl Asked {
    /// What the log has of it, once its answer is known.
    pub(crate) fn record(&self, peer: Peer) -> Record<'_> {
        Record {
            peer,
            method: self.method,
            target: &self.target,
            version: Some(self.version),
            instead: b"",
            status: None,
            referer: &self.referer,
            user_agent: &self.user_agent,
        }
    }

    fn of(request: &Request<'_>) -> Asked {
        Asked {
            method: if request.method == Method::Put { "PUT" } else { "DELETE" },
            target: request.target.to_owned(),
            version: request.version,
            keep_alive: request.keep_alive,
            referer: request.referer.to_vec(),
            user_agent: request.user_agent.to_vec(),
        }
    }
}

impl Upload {
    /// Takes the next bytes of the content, framing included.
    ///
    /// # Errors
    /// What the client is told: too much, nonsense, or more than there is room for now.
    pub fn take(&mut self, bytes: &[u8], now: Instant) -> Result<Taken, Status> {
        self.last_progress = now;
        self.content.take(bytes)
    }

    /// Copies bytes that come next, if they are right, to where they stay; their Internet sum, made by the
    /// loop that copies. `None` if they are to be verified before.
    pub fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        self.content.place(bytes)
    }

    /// What was placed and not taken was never here.
    pub fn forget_placed(&mut self) {
        self.content.forget_placed();
    }

    /// Bytes of the content that are known to come, as far as there is memory for them: the receive window of
    /// own TCP.
    pub fn room(&self) -> usize {
        self.content.room()
    }

    /// Whether no bytes are to come.
    pub fn is_whole(&self) -> bool {
        self.content.is_whole()
    }

    /// When it is given up unless more has come.
    pub fn deadline(&self) -> Instant {
        let share = Duration::from_secs(self.content.len() / MIN_RATE);
        (self.began + GRACE + share).min(self.last_progress + MAX_SILENCE)
    }

    /// Hands it over; `waker` is for who is to ask for the outcome.
    pub fn submit(&mut self, waker: ConnectionWaker) {
        self.ticket.wake_by(waker);
        let wish = match self.is_put {
            true => Wish::Put(self.content.finish()),
            false => Wish::Delete,
        };
        let (path, conditions) = (std::mem::take(&mut self.path), self.conditions.take());
        let change = WantedChange { path, wish, conditions };
        let promise = Promise(Arc::clone(&self.ticket));
        // A committer that has ended lets go of the promise at once.
        self.orders.give(Order::change(change, promise));
    }

    /// What it came to, once that is known.
    pub fn outcome(&self) -> Option<Result<ChangeMade, Status>> {
        let outcome = self.ticket.state.lock().unwrap_or_else(PoisonError::into_inner).outcome.take()?;
        Some(outcome.map_err(|why| match why {
            NotMade::Precondition => Status::PreconditionFailed,
            NotMade::Nothing => Status::NotFound,
            NotMade::Conflict => Status::Conflict,
            NotMade::Name => Status::Forbidden,
            NotMade::Full => Status::InsufficientStorage,
            NotMade::Failed => Status::InternalServerError,
        }))
    }
}

impl Ticket {
    fn wake_by(&self, waker: ConnectionWaker) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waker = Some(waker);
    }

    /// The first one counts.
    fn settle(&self, outcome: Result<ChangeMade, NotMade>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = state.waker.take() {
            state.outcome = Some(outcome);
            waker.wake();
        }
    }
}
