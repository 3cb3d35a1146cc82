//! How loops read what is not in memory: by io_uring, by a few threads where there is none, or where they
//! stand.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};
use std::task::Waker;
use std::thread;

use fsstack::cache::BlockReader;
use fsstack::cache::reads::{ReadQueue, ReadThreads, UringQueue};
use runtime::event_loop;

use crate::live::Wakes;

/// Threads that read for all loops, where there is no io_uring. A disk that has more to do at once is better
/// off with that.
const THREADS: usize = 8;

/// How blocks are read that no cache has.
#[derive(Clone, Debug)]
pub enum Reading {
    /// By a ring of each loop's own.
    Uring,
    /// By threads.
    Threads(ReadThreads),
    /// By the loop, which waits (`--without async-reads`).
    InPlace,
    /// By the application's own.
    Own(Arc<dyn OwnReading>),
}

/// Makes the queues of an application that reads in a way of its own.
pub trait OwnReading: fmt::Debug + Send + Sync {
    /// A queue for the loop that `waker` wakes: for who ends reads in that loop's thread, at its turn.
    ///
    /// # Errors
    /// Whatever there is; the server does not start then.
    fn queue(&self, waker: &event_loop::Waker) -> io::Result<Box<dyn ReadQueue + Send>>;
}

/// The threads of all who have no io_uring.
fn shared() -> ReadThreads {
    static SHARED: LazyLock<ReadThreads> = LazyLock::new(|| ReadThreads::new(THREADS));
    SHARED.clone()
}

impl Reading {
    /// The best there is here, for all who ask: they share its threads, if that is what it is.
    pub fn best() -> Reading {
        static BEST: LazyLock<Reading> = LazyLock::new(|| {
            // In a thread of its own: the end of a ring interrupts the calls of the thread that made it.
            let probed = thread::spawn(UringQueue::probe).join().unwrap_or(Err(io::ErrorKind::Other.into()));
            if let Err(error) = &probed {
                tracing::debug!("there is no io_uring ({error}): threads read what is not in memory");
            }
            if probed.is_ok() { Reading::Uring } else { Reading::Threads(shared()) }
        });
        BEST.clone()
    }

    /// By threads, whatever there is. They are started when there is something to read.
    pub fn threads() -> Reading {
        Reading::Threads(ReadThreads::new(THREADS))
    }

    /// The reader of the loop that `waker` wakes, and of the connections of `wakes`.
    ///
    /// # Errors
    /// If a queue of the application's own cannot be had.
    pub(crate) fn reader(&self, wakes: &Wakes, waker: &event_loop::Waker) -> io::Result<BlockReader> {
        let wakes = wakes.clone();
        let waker_of = move |key: u32| Waker::from(Arc::new(wakes.connection(key)));
        Ok(match self {
            Reading::InPlace => BlockReader::in_place(),
            Reading::Own(own) => BlockReader::queued(own.queue(waker)?, waker_of),
            Reading::Threads(threads) => BlockReader::queued(Box::new(threads.clone()), waker_of),
            Reading::Uring => match UringQueue::new(waker.as_fd()) {
                Ok(queue) => BlockReader::queued(Box::new(queue), waker_of),
                Err(error) => {
                    tracing::warn!("no io_uring for a loop ({error}): threads read what is not in memory");
                    BlockReader::queued(Box::new(shared()), waker_of)
                }
            },
        })
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reading::Uring => "by io_uring",
            Reading::Threads(_) => "by threads",
            Reading::InPlace => "where it is needed, and waited for",
            Reading::Own(_) => "by the application",
        })
    }
}
