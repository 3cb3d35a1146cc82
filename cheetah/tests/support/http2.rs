//! A client of HTTP/2 that says whatever it is told to, and reads what comes.

use std::collections::BTreeMap;

use cheetah::http::hpack;
use cheetah::http2::PREFACE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const PRIORITY_UPDATE: u8 = 16;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (content.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), content].concat()
}

/// `SETTINGS` of these parameters.
pub fn settings(parameters: &[(u16, u32)]) -> Vec<u8> {
    let parameter = |&(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let content: Vec<u8> = parameters.iter().flat_map(parameter).collect();
    frame(SETTINGS, 0, 0, &content)
}

pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// The preface, with windows that are never full.
pub fn preface() -> Vec<u8> {
    let all = (1 << 31) - 1;
    [&PREFACE[..], &settings(&[(4, all)]), &window_update(0, all - 65_535)].concat()
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| hpack::field(name.as_bytes(), value.as_bytes(), &mut block));
    block
}

/// The fields of a request, pseudo-fields first.
pub fn fields<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a")];
    [&pseudo[..], more].concat()
}

/// A whole request without content.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    request(stream, "GET", path, &[], None)
}

pub fn request(
    stream: u32,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    content: Option<&[u8]>,
) -> Vec<u8> {
    let flags = END_HEADERS | if content.is_none() { END_STREAM } else { 0 };
    let mut bytes = frame(HEADERS, flags, stream, &block(&fields(method, path, more)));
    if let Some(content) = content {
        bytes.extend(frame(DATA, END_STREAM, stream, content));
    }
    bytes
}

/// What came of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How long its frames of content were.
    pub frames: Vec<usize>,
    pub is_whole: bool,
    pub reset: Option<u32>,
    /// Statuses of 1xx that came before.
    pub interim: Vec<String>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
    }

    pub fn status(&self) -> u16 {
        self.field(":status").map_or(0, |status| status.parse().unwrap())
    }
}

/// Reads what a server sends.
#[derive(Debug, Default)]
pub struct Reader {
    input: Vec<u8>,
    decoder: hpack::Decoder,
    block: Vec<u8>,
    pub answers: BTreeMap<u32, Answer>,
    /// Streams in the order of their frames of content.
    pub order: Vec<u32>,
    /// Last streams and codes.
    pub goaways: Vec<(u32, u32)>,
    pub settings: Option<BTreeMap<u16, u32>>,
    pub settings_acks: usize,
    pub pings: Vec<Vec<u8>>,
    pub pongs: Vec<Vec<u8>>,
    pub windows: BTreeMap<u32, u64>,
}

impl Reader {
    /// Takes bytes, cut anywhere.
    pub fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(header) = self.input.first_chunk::<9>() {
            let &[a, b, c, kind, flags, s, t, u, v] = header;
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            assert!(len <= 16_384, "a frame longer than was allowed");
            if self.input.len() < 9 + len {
                return;
            }
            let content = self.input[9..9 + len].to_vec();
            self.input.drain(..9 + len);
            self.on_frame(kind, flags, u32::from_be_bytes([s, t, u, v]), &content);
        }
    }

    fn on_frame(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) {
        let number = |at: usize| u32::from_be_bytes(*content[at..].first_chunk().unwrap());
        assert!(self.block.is_empty() || kind == CONTINUATION, "a head was interrupted");
        assert!(self.settings.is_some() || kind == SETTINGS, "settings come first");
        match kind {
            DATA => {
                self.order.push(stream);
                let answer = self.answers.get_mut(&stream).expect("content without a head");
                assert!(!answer.is_whole && answer.reset.is_none(), "content behind the end");
                answer.body.extend_from_slice(content);
                answer.frames.push(content.len());
                answer.is_whole = flags & END_STREAM != 0;
            }
            HEADERS | CONTINUATION => {
                self.block.extend_from_slice(content);
                let answer = self.answers.entry(stream).or_default();
                if kind == HEADERS {
                    answer.is_whole = flags & END_STREAM != 0;
                }
                if flags & END_HEADERS != 0 {
                    let (mut fields, text) =
                        (Vec::new(), |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap());
                    let block = std::mem::take(&mut self.block);
                    let take = |name: &[u8], value: &[u8]| fields.push((text(name), text(value)));
                    self.decoder.decode(&block, &mut Vec::new(), take).unwrap();
                    if fields[0].1.starts_with('1') {
                        answer.interim.push(fields[0].1.clone());
                    } else {
                        assert!(answer.fields.is_empty(), "a second head");
                        answer.fields = fields;
                    }
                } else {
                    assert!(!self.block.is_empty());
                }
            }
            RST_STREAM => self.answers.entry(stream).or_default().reset = Some(number(0)),
            SETTINGS if flags & ACK != 0 => self.settings_acks += 1,
            SETTINGS => {
                let parameters = content.chunks(6).map(|parameter| {
                    let &[a, b, c, d, e, f] = parameter else { panic!("{parameter:?}") };
                    (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))
                });
                self.settings = Some(parameters.collect());
            }
            PING if flags & ACK != 0 => self.pongs.push(content.to_vec()),
            PING => self.pings.push(content.to_vec()),
            GOAWAY => self.goaways.push((number(0), number(4))),
            WINDOW_UPDATE => *self.windows.entry(stream).or_default() += u64::from(number(0)),
            _ => panic!("a frame of kind {kind}"),
        }
    }
}

pub fn headers(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}
