//! A server's end of an HTTP/2 connection and its client, without a socket.

use std::time::Duration;

use cheetah::channel::Channel;
use cheetah::http2::ErrorCode;
use cheetah::service::{Options, Service};
use runtime::payload::{PayloadSource, Pieces};
use runtime::time::Instant;

use super::http2::*;

pub const NOW_UNIX: u64 = 1_700_000_000;
pub const START: Instant = Instant::from_millis(1000);

pub fn service() -> Service {
    service_with(Options::default())
}

pub fn service_with(options: Options) -> Service {
    let mut service = Service::new(super::site(), options);
    service.set_time(START, NOW_UNIX);
    service
}

/// A connection and its client.
pub struct Pair {
    pub service: Service,
    pub channel: Channel,
    pub reader: Reader,
}

impl Pair {
    pub fn new() -> Pair {
        Pair::with(service(), &preface())
    }

    pub fn with(mut service: Service, preface: &[u8]) -> Pair {
        let channel = Channel::new(&mut service, None, false);
        let mut pair = Pair { service, channel, reader: Reader::default() };
        pair.say(preface);
        pair
    }

    /// The client says that, and takes all that comes of it.
    pub fn say(&mut self, bytes: &[u8]) {
        self.say_only(bytes);
        self.take_all();
    }

    /// The client says that and reads nothing.
    pub fn say_only(&mut self, bytes: &[u8]) {
        assert_eq!(self.channel.on_bytes(&mut self.service, bytes), bytes.len());
    }

    pub fn take_all(&mut self) {
        while self.take_some(usize::MAX) > 0 {}
    }

    /// The client takes at most so many bytes.
    pub fn take_some(&mut self, most: usize) -> usize {
        let from = self.channel.acknowledged_end();
        let len = most.min((self.channel.end() - from) as usize);
        let mut pieces = Pieces::new();
        assert_eq!(self.channel.pieces(from, len, &mut pieces), len);
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes).copied().collect();
        drop(pieces);
        self.reader.take(&bytes);
        self.channel.acknowledged(from + len as u64);
        self.channel.resume(&mut self.service);
        len
    }

    pub fn answer(&self, stream: u32) -> &Answer {
        self.reader.answers.get(&stream).unwrap_or_else(|| panic!("nothing came of {stream}"))
    }

    pub fn set_time(&mut self, after: Duration) {
        self.service.set_time(START + after, NOW_UNIX + after.as_secs());
    }

    /// The connection's end, by what code.
    pub fn code(&self) -> Option<ErrorCode> {
        self.reader.goaways.last().map(|&(_, code)| ErrorCode(code))
    }
}
