//! A connection to a program that speaks FastCGI: one request at a time, kept for the next.

use std::os::fd::{AsFd, BorrowedFd};

use runtime::buffer::Slice;
use runtime::time::Instant;

use super::fastcgi::{Decoder, Ended, Said, encode};
use super::link::{Begun, Exchange, Fate, Link, Read, Tools};
use super::link_socket::LinkSocket;
use super::route::Limits;
use crate::http::response::Status;

/// Bytes of what a program tells the log that go there at once.
const MAX_TOLD: usize = 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct FastCgiLink {
    socket: LinkSocket,
    decoder: Decoder,
    /// The program has said something here.
    is_heard: bool,
}

impl FastCgiLink {
    /// On a connection that was begun.
    pub(super) fn new(begun: Begun, now: Instant) -> FastCgiLink {
        FastCgiLink { socket: LinkSocket::new(begun, now), decoder: Decoder::default(), is_heard: false }
    }

    fn fail(&mut self, status: Status, why: &str) -> Fate {
        match self.socket.exchange.take() {
            None => Fate::Close,
            // Nothing was wrong with the request: the program had closed a connection that it had kept too
            // long.
            Some(exchange)
                if self.socket.served > 0
                    && status == Status::BadGateway
                    && exchange.ask.is_safe
                    && !exchange.output.is_begun()
                    && !exchange.retried =>
            {
                Fate::Retry(Box::new(Exchange { retried: true, ..exchange }))
            }
            Some(exchange) => {
                exchange.fail(status, why);
                Fate::Close
            }
        }
    }

    /// Takes in what the program said; how its request ended, if it has.
    fn take(&mut self, bytes: &Slice) -> Result<Option<Ended>, String> {
        self.is_heard = true;
        let mut ended = None;
        let mut fault = None;
        let exchange = &mut self.socket.exchange;
        let fed = self.decoder.feed(bytes, |said| match said {
            _ if ended.is_some() => {
                fault = Some("it said something behind the end of the request".to_owned())
            }
            Said::Out(bytes) => {
                let taken = exchange.as_mut().map(|exchange| exchange.output.take(bytes));
                if let Some(Err(bad)) = taken {
                    fault.get_or_insert_with(|| bad.to_string());
                }
            }
            Said::Error(bytes) => tell(bytes.bytes()),
            Said::End(end) => ended = Some(end),
        });
        match (fed, fault) {
            (Err(error), _) => Err(error.0.to_owned()),
            (Ok(()), Some(fault)) => Err(fault),
            (Ok(()), None) => Ok(ended),
        }
    }

    /// The request is over.
    fn end(&mut self, ended: Ended) -> Fate {
        let Some(exchange) = self.socket.exchange.take() else { return Fate::Close };
        match ended {
            Ended::Complete => exchange.output.finish(),
            Ended::Overloaded => exchange.fail(Status::ServiceUnavailable, "it takes no more requests"),
            Ended::Refused => {
                exchange.fail(Status::BadGateway, "it does not answer requests (FCGI_RESPONDER)")
            }
        }
        self.socket.served += 1;
        // With a rest of the request in the socket's way, or of a record, nobody knows where the next one
        // begins.
        if self.socket.out.is_empty() && self.decoder.is_between() { Fate::Keep } else { Fate::Close }
    }
}

/// What a program writes for its log goes to ours, a line as a line.
fn tell(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_TOLD)];
    for line in bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        tracing::warn!("a program says: {}", line.escape_ascii());
    }
}

impl Link for FastCgiLink {
    fn give(&mut self, exchange: Exchange, now: Instant) {
        self.socket.out.append(encode(&exchange.ask));
        self.socket.begin(exchange, now);
    }

    fn room(&self) -> usize {
        usize::from(self.socket.exchange.is_none())
    }

    fn silent_since(&self) -> Option<Instant> {
        (self.socket.exchange.is_some() && !self.is_heard).then_some(self.socket.active)
    }

    fn on_ready(&mut self, readable: bool, writable: bool) {
        self.socket.on_ready(readable, writable);
    }

    fn turn(&mut self, tools: &mut Tools) -> Fate {
        if self.socket.is_gone() {
            // Without its connection the program finds out, too.
            return Fate::Close;
        }
        if let Err(why) = self.socket.write() {
            return self.fail(Status::BadGateway, &why);
        }
        while let Some(read) = self.socket.read(tools) {
            let Read::Bytes(bytes) = read else {
                return self.fail(Status::BadGateway, "it closed the connection");
            };
            self.socket.active = tools.now;
            match self.take(&bytes) {
                Ok(None) if self.socket.exchange.is_none() => return Fate::Close,
                Ok(None) => {}
                Ok(Some(ended)) => {
                    if let fate @ (Fate::Close | Fate::Retry(_)) = self.end(ended) {
                        return fate;
                    }
                }
                Err(why) => return self.fail(Status::BadGateway, &why),
            }
        }
        if self.socket.is_silent(tools) {
            return self.fail(Status::GatewayTimeout, "it is silent");
        }
        Fate::Keep
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        self.socket.deadline(limits)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn give_up(mut self: Box<Self>) {
        if let Some(exchange) = self.socket.exchange.take() {
            exchange.fail(Status::ServiceUnavailable, "the server ends");
        }
    }
}
