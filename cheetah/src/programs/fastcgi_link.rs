//! A connection to a program that speaks FastCGI: one request at a time, kept for the next.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use runtime::buffer::{Aggregate, Slice};
use runtime::time::Instant;
use rustix::net::sockopt;

use super::fastcgi::{Decoder, Ended, Said, encode};
use super::link::{self, Begun, Exchange, Fate, Link, Read, Tools};
use super::route::Limits;
use crate::http::response::Status;

/// A connection without a request is kept so long.
const IDLE: Duration = Duration::from_secs(60);

/// Bytes of what a program tells the log that go there at once.
const MAX_TOLD: usize = 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct FastCgiLink {
    socket: OwnedFd,
    is_connecting: bool,
    readable: bool,
    writable: bool,
    out: Aggregate,
    decoder: Decoder,
    exchange: Option<Exchange>,
    /// When the program or the client last did something about the request, or there was none any more.
    active: Instant,
    /// The program was not read, for the client was behind.
    held_back: bool,
    /// Requests that it has answered.
    served: u64,
    /// The program has said something here.
    is_heard: bool,
}

impl FastCgiLink {
    /// On a connection that was begun.
    pub(super) fn new(begun: Begun, now: Instant) -> FastCgiLink {
        FastCgiLink {
            socket: begun.socket,
            is_connecting: begun.is_pending,
            readable: !begun.is_pending,
            writable: !begun.is_pending,
            out: Aggregate::new(),
            decoder: Decoder::default(),
            exchange: None,
            active: now,
            held_back: false,
            served: 0,
            is_heard: false,
        }
    }

    fn fail(&mut self, status: Status, why: &str) -> Fate {
        match self.exchange.take() {
            None => Fate::Close,
            // Nothing was wrong with the request: the program had closed a connection that it had kept too long.
            Some(exchange)
                if self.served > 0
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
        let exchange = &mut self.exchange;
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
        let Some(exchange) = self.exchange.take() else { return Fate::Close };
        match ended {
            Ended::Complete => exchange.output.finish(),
            Ended::Overloaded => exchange.fail(Status::ServiceUnavailable, "it takes no more requests"),
            Ended::Refused => {
                exchange.fail(Status::BadGateway, "it does not answer requests (FCGI_RESPONDER)")
            }
        }
        self.served += 1;
        // With a rest of the request in the socket's way, or of a record, nobody knows where the next one begins.
        if self.out.is_empty() && self.decoder.is_between() { Fate::Keep } else { Fate::Close }
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
        self.out.append(encode(&exchange.ask));
        self.exchange = Some(exchange);
        self.active = now;
    }

    fn room(&self) -> usize {
        usize::from(self.exchange.is_none())
    }

    fn silent_since(&self) -> Option<Instant> {
        (self.exchange.is_some() && !self.is_heard).then_some(self.active)
    }

    fn on_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    fn turn(&mut self, tools: &mut Tools) -> Fate {
        if self.exchange.as_ref().is_some_and(|exchange| exchange.output.is_gone()) {
            // Without its connection the program finds out, too.
            return Fate::Close;
        }
        if self.is_connecting && self.writable {
            match sockopt::socket_error(&self.socket) {
                Ok(Ok(())) => self.is_connecting = false,
                Ok(Err(error)) | Err(error) => {
                    return self.fail(Status::BadGateway, &format!("it cannot be connected to: {error}"));
                }
            }
        }
        if !self.is_connecting && self.writable && !self.out.is_empty() {
            match link::write(&self.socket, &mut self.out) {
                Ok(writable) => self.writable = writable,
                // What it said before it closed is read first.
                Err(_) => (self.out, self.readable) = (Aggregate::new(), true),
            }
        }
        while self.readable && !self.is_connecting {
            self.held_back = self.exchange.as_ref().is_some_and(|exchange| !exchange.output.has_room());
            if self.held_back {
                return Fate::Keep;
            }
            match tools.read(&self.socket) {
                Read::Bytes(bytes) => {
                    self.active = tools.now;
                    match self.take(&bytes) {
                        Ok(None) if self.exchange.is_none() => return Fate::Close,
                        Ok(None) => {}
                        Ok(Some(ended)) => {
                            if let fate @ (Fate::Close | Fate::Retry(_)) = self.end(ended) {
                                return fate;
                            }
                        }
                        Err(why) => return self.fail(Status::BadGateway, &why),
                    }
                }
                Read::Nothing => self.readable = false,
                Read::NoBuffer => return Fate::Keep,
                Read::End | Read::Broken => return self.fail(Status::BadGateway, "it closed the connection"),
            }
        }
        if self.deadline(&tools.limits).is_some_and(|deadline| tools.now >= deadline) {
            return self.fail(Status::GatewayTimeout, "it is silent");
        }
        Fate::Keep
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        match &self.exchange {
            None => Some(self.active + IDLE),
            Some(_) if self.held_back => None,
            Some(_) if self.is_connecting => Some(self.active + limits.connect_timeout),
            Some(_) => Some(self.active + limits.timeout),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn give_up(mut self: Box<Self>) {
        if let Some(exchange) = self.exchange.take() {
            exchange.fail(Status::ServiceUnavailable, "the server ends");
        }
    }
}
