//! What fuzzing asks of a server's end, as plain functions: any bytes go in, and what must be true of what
//! comes out is asserted. `fuzz/` has them searched by coverage, the tests run them on random bytes.
//!
//! | function | is given | asserts |
//! |---|---|---|
//! | [`fuzz_requests`] | what a client of HTTP/1.1 says | the same is answered however it is cut |
//! | [`fuzz_http2`] | decisions that frames are made of, some of them broken | what is answered is HTTP/2 |
//! | [`fuzz_records`] | decisions that damage TLS records | what is opened is a beginning of what was sent |

mod frames;
mod records;

use std::sync::Arc;
use std::time::Duration;

use fsstack::cache::BlockReader;
use runtime::payload::{PayloadSource, Pieces};
use runtime::time::Instant;

use crate::channel::Channel;
use crate::service::{Options, Service};
use crate::store::{Document, Found, Made, Store};

pub use frames::fuzz_http2;
pub use records::fuzz_records;

/// How the preface begins.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

const START: Instant = Instant::from_millis(1000);
const NOW: u64 = 1_700_000_000;

/// Two pages in memory.
#[derive(Debug)]
struct TwoPages([Arc<dyn Document>; 2]);

impl TwoPages {
    fn new() -> Arc<TwoPages> {
        let made = |bytes| Arc::new(Made::new("text/plain", bytes, NOW)) as Arc<dyn Document>;
        Arc::new(TwoPages([made(b"hello".to_vec()), made(vec![b'x'; 100_000])]))
    }
}

impl Store for TwoPages {
    fn look_up(&self, path: &[u8], _reader: &BlockReader) -> Found {
        match path {
            b"/" => Found::File(Arc::clone(&self.0[0])),
            b"/big" => Found::File(Arc::clone(&self.0[1])),
            _ => Found::Nothing,
        }
    }
}

/// A server's end, and how much it has said.
struct End {
    service: Service,
    channel: Channel,
}

impl End {
    fn new(site: Arc<dyn Store>) -> End {
        let mut service = Service::new(site, Options::default());
        service.set_time(START, NOW);
        let channel = Channel::new(&mut service, None, false);
        End { service, channel }
    }

    /// The peer says `bytes`, as far as that is taken, and takes what comes of it, at most `most` bytes at a
    /// time. Gives how much of it was taken.
    fn say(&mut self, bytes: &[u8], most: usize, said: &mut Vec<u8>) -> usize {
        let mut at = 0;
        loop {
            let window = self.channel.window(&self.service).min(bytes.len() - at);
            let taken = self.channel.on_bytes(&mut self.service, &bytes[at..at + window]);
            assert!(taken <= window, "more was taken than was there");
            at += taken;
            let before = said.len();
            while self.take(most, said) > 0 {}
            if at == bytes.len() || (taken == 0 && said.len() == before) {
                return at;
            }
        }
    }

    fn take(&mut self, most: usize, said: &mut Vec<u8>) -> usize {
        let from = self.channel.acknowledged_end();
        let len = most.min((self.channel.end() - from) as usize);
        let mut pieces = Pieces::new();
        assert_eq!(self.channel.pieces(from, len, &mut pieces), len, "what is said to be there is");
        pieces.iter().for_each(|piece| said.extend_from_slice(piece.bytes));
        drop(pieces);
        self.channel.acknowledged(from + len as u64);
        self.channel.resume(&mut self.service);
        len
    }
}

/// What a client of HTTP/1.1 says is answered in the same way whole and in pieces, whose lengths its first
/// byte decides.
pub fn fuzz_requests(bytes: &[u8]) {
    let Some((&cut, said)) = bytes.split_first() else { return };
    // What is wrong with a head that has not ended may be told at once or in the end: here each ends.
    let said = &[said, b"\r\n\r\n"].concat()[..];
    // A preface of HTTP/2 that does not come first is refused by 400 or 505, as it is cut.
    if said[1..].windows(PREFACE_LINE.len()).any(|line| line == PREFACE_LINE) {
        return;
    }
    let site = TwoPages::new();
    let answer = |piece: usize, most: usize| {
        let mut end = End::new(Arc::clone(&site) as Arc<dyn Store>);
        let mut answered = Vec::new();
        for part in said.chunks(piece) {
            if end.say(part, most, &mut answered) < part.len() {
                break;
            }
        }
        // Whoever is silent is cut in the end.
        end.service.set_time(START + Duration::from_secs(3600), NOW + 3600);
        end.channel.on_timeout(&mut end.service);
        let is_over = end.channel.is_aborted() || end.channel.is_finished();
        (answered, is_over)
    };
    let whole = answer(said.len().max(1), usize::MAX);
    let pieces = answer(usize::from(cut % 61) + 1, usize::from(cut) * 7 + 1);
    assert_eq!(whole.0, pieces.0, "another answer in pieces");
    assert!(whole.1 && pieces.1, "a silent client is kept for ever");
}
