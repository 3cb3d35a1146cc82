//! HTTP/2 from a peer that says anything: frames made by decisions, and a reader that believes nothing.

use std::collections::BTreeMap;

use super::{End, TwoPages};
use crate::http::hpack;
use crate::http2::PREFACE;
use runtime::payload::PayloadSource as _;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Frames that the rules of HTTP/2 are kept in, and broken.
const MAX_FRAMES: usize = 400;

/// Decisions, one byte after the other; nothing more, once they are at their end.
struct Decisions<'a>(&'a [u8]);

impl Decisions<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn some(&mut self, most: usize) -> Vec<u8> {
        let len = usize::from(self.byte()) % (most + 1);
        (0..len).map(|_| self.byte()).collect()
    }
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

fn request(decisions: &mut Decisions<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    let method: &[u8] =
        [&b"GET"[..], b"GET", b"HEAD", b"POST", b"OPTIONS"][usize::from(decisions.byte()) % 5];
    let path: &[u8] = [&b"/"[..], b"/big", b"/big", b"/none", b"*"][usize::from(decisions.byte()) % 5];
    hpack::field(b":method", method, &mut block);
    hpack::field(b":scheme", b"https", &mut block);
    hpack::field(b":path", path, &mut block);
    hpack::field(b":authority", b"h", &mut block);
    match decisions.byte() % 8 {
        0 => hpack::field(b"range", b"bytes=1-5", &mut block),
        1 => hpack::field(b"priority", b"u=1, i", &mut block),
        2 => hpack::field(b"content-length", b"3", &mut block),
        3 => {
            // Anything, behind what is right.
            block.extend(decisions.some(40));
        }
        4 => hpack::field(&decisions.some(10), &decisions.some(20), &mut block),
        _ => {}
    }
    block
}

/// What the peer says next.
fn said(decisions: &mut Decisions<'_>, next_stream: &mut u32) -> Vec<u8> {
    let kind = decisions.byte();
    let stream =
        |decisions: &mut Decisions<'_>, next: u32| next.saturating_sub(2 * u32::from(decisions.byte() % 4));
    match kind % 16 {
        0..=4 => {
            let flags = if kind & 0x10 == 0 { END_STREAM | END_HEADERS } else { END_HEADERS };
            let block = request(decisions);
            let own = *next_stream;
            *next_stream += 2;
            frame(HEADERS, flags, own, &block)
        }
        5 => {
            // A head in two.
            let block = request(decisions);
            let cut = usize::from(decisions.byte()) % (block.len() + 1);
            let own = *next_stream;
            *next_stream += 2;
            let last = if kind & 0x80 == 0 { END_HEADERS } else { 0 };
            [frame(HEADERS, END_STREAM, own, &block[..cut]), frame(CONTINUATION, last, own, &block[cut..])]
                .concat()
        }
        6 | 7 => {
            let (flags, stream) = (decisions.byte() & (END_STREAM | PADDED), stream(decisions, *next_stream));
            frame(DATA, flags, stream, &decisions.some(60))
        }
        8 => {
            let number = u16::from(decisions.byte() % 10);
            let value =
                u32::from_be_bytes([decisions.byte(), decisions.byte(), decisions.byte(), decisions.byte()]);
            let value = value >> (decisions.byte() % 32);
            frame(SETTINGS, 0, 0, &[&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
        }
        9 => frame(SETTINGS, ACK, 0, &[]),
        10 | 11 => {
            let of = if kind & 0x20 == 0 { 0 } else { stream(decisions, *next_stream) };
            let value = u32::from_be_bytes([0, decisions.byte(), decisions.byte(), decisions.byte()]);
            frame(WINDOW_UPDATE, 0, of, &(value >> (decisions.byte() % 24)).to_be_bytes())
        }
        12 => frame(RST_STREAM, 0, stream(decisions, *next_stream), &8u32.to_be_bytes()),
        13 => {
            let value: &[u8] = if kind & 0x10 == 0 { b"u=2" } else { b"i, u=9" };
            let of = stream(decisions, *next_stream).to_be_bytes();
            frame(PRIORITY_UPDATE, 0, 0, &[&of, value].concat())
        }
        14 => match kind >> 4 & 3 {
            0 => frame(PING, decisions.byte() & ACK, 0, &[7; 8]),
            1 => frame(GOAWAY, 0, 0, &[0; 8]),
            2 => frame(PUSH_PROMISE, END_HEADERS, stream(decisions, *next_stream), &[0; 8]),
            // Of a kind that nobody knows: passed over.
            _ => frame(200, decisions.byte(), stream(decisions, *next_stream), &decisions.some(30)),
        },
        // Anything.
        _ => decisions.some(30),
    }
}

/// What a stream has come to.
#[derive(Debug, Default)]
struct Answered {
    has_head: bool,
    is_over: bool,
    content: u64,
    length: Option<u64>,
}

/// Reads what the server says, and asserts that it may.
#[derive(Default)]
struct Reader {
    decoder: hpack::Decoder,
    streams: BTreeMap<u32, Answered>,
    block: Option<(u32, u8, Vec<u8>)>,
    has_settings: bool,
    is_over: bool,
}

impl Reader {
    /// Takes all whole frames in `bytes` out of it.
    fn read(&mut self, bytes: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(&[a, b, c, kind, flags, s, t, u, v]) = bytes[at..].first_chunk::<9>() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            assert!(len <= 16_384, "a frame longer than anybody allowed");
            let Some(content) = bytes.get(at + 9..at + 9 + len) else { break };
            let content = content.to_vec();
            self.on_frame(kind, flags, u32::from_be_bytes([s, t, u, v]), &content);
            at += 9 + len;
        }
        bytes.drain(..at);
    }

    fn on_frame(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) {
        assert!(self.has_settings || kind == SETTINGS, "SETTINGS come first");
        assert!(self.block.is_none() || kind == CONTINUATION, "a head is interrupted");
        match kind {
            SETTINGS => {
                assert!(
                    stream == 0
                        && content.len().is_multiple_of(6)
                        && (flags & ACK == 0 || content.is_empty())
                );
                self.has_settings = true;
            }
            HEADERS => self.on_block((stream, flags & END_STREAM, content.to_vec()), flags),
            CONTINUATION => {
                let Some((of, ends, mut block)) = self.block.take() else { panic!("nothing to continue") };
                assert_eq!(of, stream);
                block.extend_from_slice(content);
                self.on_block((of, ends, block), flags);
            }
            DATA => {
                let Some(answered) = self.streams.get_mut(&stream) else { panic!("content without a head") };
                assert!(answered.has_head && !answered.is_over, "content behind the end");
                answered.content += content.len() as u64;
                answered.is_over = flags & END_STREAM != 0;
                assert!(
                    answered.length.is_none_or(|length| answered.content <= length),
                    "more than was said"
                );
            }
            RST_STREAM => {
                assert!(content.len() == 4 && stream != 0);
                self.streams.entry(stream).or_default().is_over = true;
            }
            GOAWAY => {
                assert!(stream == 0 && content.len() >= 8);
                self.is_over |= content[4..8] != [0; 4];
            }
            PING => assert!(stream == 0 && content.len() == 8 && flags & ACK != 0),
            WINDOW_UPDATE => assert!(content.len() == 4 && content != [0; 4]),
            other => panic!("the server says {other}"),
        }
    }

    fn on_block(&mut self, (stream, ends, block): (u32, u8, Vec<u8>), flags: u8) {
        if flags & END_HEADERS == 0 {
            self.block = Some((stream, ends, block));
            return;
        }
        assert!(stream % 2 == 1, "an answer to what nobody asked");
        let (mut status, mut length) = (0u16, None);
        let take = |name: &[u8], value: &[u8]| {
            let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            match name {
                b":status" => status = number().and_then(|number: u64| number.try_into().ok()).unwrap_or(0),
                b"content-length" => length = number(),
                _ => {}
            }
        };
        assert!(self.decoder.decode(&block, &mut Vec::new(), take).is_ok(), "a head that is none");
        assert!((100..600).contains(&status));
        let answered = self.streams.entry(stream).or_default();
        assert!(!answered.has_head && !answered.is_over, "a second head");
        (answered.has_head, answered.is_over, answered.length) =
            (status >= 200, ends & END_STREAM != 0, length);
    }
}

/// Whatever a peer says by HTTP/2, the answer is HTTP/2: frames within their limits, a head to a stream and
/// content behind it, no more of it than was said. An error that is told ends the connection, and nothing
/// makes the server panic.
pub fn fuzz_http2(bytes: &[u8]) {
    let mut decisions = Decisions(bytes);
    let (piece, most) = (usize::from(decisions.byte()) * 3 + 1, usize::from(decisions.byte()) * 97 + 1);
    let mut end = End::new(TwoPages::new());
    let (mut reader, mut answered) = (Reader::default(), Vec::new());
    let mut next_stream = 1;
    end.say(PREFACE, most, &mut answered);
    end.say(&frame(SETTINGS, 0, 0, &[]), most, &mut answered);
    for _ in 0..MAX_FRAMES {
        if decisions.0.is_empty() || end.channel.is_finished() {
            break;
        }
        let frames = said(&mut decisions, &mut next_stream);
        for part in frames.chunks(piece) {
            end.say(part, most, &mut answered);
            reader.read(&mut answered);
            assert!(answered.len() < 9 + 16_384, "half a frame is longer than a whole one");
        }
    }
    while end.take(most, &mut answered) > 0 {}
    reader.read(&mut answered);
    assert!(answered.is_empty(), "the last frame is not whole");
    assert!(!reader.is_over || end.channel.is_finished(), "an error that ends nothing");
}
