//! A connection to another HTTP server: one request at a time, kept for the next (RFC 9112).

use std::os::fd::{AsFd, BorrowedFd};

use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::time::Instant;

use super::link::{Begun, Exchange, Fate, Link, Read, Tools};
use super::link_socket::LinkSocket;
use super::route::Limits;
use crate::http::chunked::{ChunkedEnd, Fed};
use crate::http::foreign::{self, BadHead};
use crate::http::reply::{self, BadReply, Framing, Reply, ReplyHead};
use crate::http::response::Status;

/// Heads of interim responses before that of the response.
const MAX_INTERIM: u32 = 16;

/// The connection.
#[derive(Debug)]
pub(super) struct OriginLink {
    socket: LinkSocket,
    reply: State,
    interim: u32,
    keeps: bool,
}

/// Where in a response it is.
#[derive(Debug)]
enum State {
    /// In its head, of which this has come.
    Head(Vec<u8>),
    Sized(u64),
    Chunked(ChunkedEnd),
    UntilEnd,
}

/// How a step ended that was no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Ended,
}

impl OriginLink {
    /// On a connection that was begun.
    pub(super) fn new(begun: Begun, now: Instant) -> OriginLink {
        let socket = LinkSocket::new(begun, now);
        OriginLink { socket, reply: State::Head(Vec::new()), interim: 0, keeps: true }
    }

    fn fail(&mut self, status: Status, why: &str, unix: u64) -> Fate {
        match self.socket.exchange.take() {
            None => Fate::Close,
            // Nothing was wrong with the request: the origin had closed a connection that it had kept too
            // long.
            Some(exchange)
                if self.socket.served > 0
                    && status == Status::BadGateway
                    && exchange.ask.is_safe
                    && matches!(&self.reply, State::Head(head) if head.is_empty())
                    && self.interim == 0
                    && !exchange.retried =>
            {
                Fate::Retry(Box::new(Exchange { retried: true, ..exchange }))
            }
            Some(exchange) => {
                exchange.output.fail_at(status, why, Some(unix));
                Fate::Close
            }
        }
    }

    /// Takes in what the origin said.
    fn take(&mut self, bytes: &Slice, (now, unix): (Instant, u64)) -> Result<Step, String> {
        let Some(exchange) = &mut self.socket.exchange else {
            return Err("it speaks without being asked".to_owned());
        };
        let mut rest = bytes.clone();
        while let State::Head(head) = &mut self.reply {
            let before = head.len();
            let most = (foreign::MAX_HEAD + 1 - before).min(rest.len());
            head.extend_from_slice(&rest.bytes()[..most]);
            let Some(len) = foreign::head_len(head) else {
                let too_long = head.len() > foreign::MAX_HEAD;
                return if too_long { Err(BadHead::TooLong.to_string()) } else { Ok(Step::More) };
            };
            let parsed = reply::parse(&head[..len]).map_err(|bad: BadReply| bad.to_string())?;
            // The empty line ends in these bytes, or it would have been found before.
            rest = rest.part(len - before..rest.len());
            self.socket.active = now;
            head.clear();
            match parsed {
                Reply::Interim => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Err("it says more than 16 times that it will answer".to_owned());
                    }
                    if rest.is_empty() {
                        return Ok(Step::More);
                    }
                }
                Reply::Final(reply) => {
                    let ReplyHead { head, framing, keeps } = *reply;
                    self.keeps = keeps;
                    self.reply = match framing {
                        _ if exchange.ask.is_head => State::Sized(0),
                        Framing::Sized(len) => State::Sized(len),
                        Framing::Chunked => State::Chunked(ChunkedEnd::new(u64::from(u32::MAX))),
                        Framing::UntilEnd => State::UntilEnd,
                    };
                    exchange.output.take_reply(head, unix);
                }
            }
        }
        self.socket.active = now;
        self.take_content(&rest)
    }

    fn take_content(&mut self, bytes: &Slice) -> Result<Step, String> {
        let Some(exchange) = &mut self.socket.exchange else { return Ok(Step::Ended) };
        match &mut self.reply {
            State::Head(_) => Ok(Step::More),
            State::Sized(left) => {
                let own = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= own as u64;
                exchange.output.take_content(bytes.part(0..own).into());
                // An answer that nobody asked for: what follows on this connection would be taken for
                // another's.
                self.keeps &= own == bytes.len();
                Ok(if *left == 0 { Step::Ended } else { Step::More })
            }
            State::Chunked(chunks) => {
                let mut content = Aggregate::new();
                let base = bytes.bytes().as_ptr() as usize;
                chunks.refill();
                let fed = chunks.feed_to(bytes.bytes(), |data| {
                    let from = data.as_ptr() as usize - base;
                    content.push(bytes.part(from..from + data.len()));
                });
                exchange.output.take_content(content);
                match fed {
                    Fed::More => Ok(Step::More),
                    Fed::End(len) => {
                        self.keeps &= len == bytes.len();
                        Ok(Step::Ended)
                    }
                    Fed::Bad => Err("its chunks are none".to_owned()),
                }
            }
            State::UntilEnd => {
                exchange.output.take_content(bytes.clone().into());
                Ok(Step::More)
            }
        }
    }

    /// The response is whole.
    fn end(&mut self, now: Instant) -> Fate {
        let Some(exchange) = self.socket.exchange.take() else { return Fate::Close };
        exchange.output.finish();
        self.socket.served += 1;
        self.socket.active = now;
        // With a rest of the request in the socket's way nobody knows where the next one begins.
        let keeps = self.keeps && self.socket.out.is_empty() && !matches!(self.reply, State::UntilEnd);
        (self.reply, self.interim) = (State::Head(Vec::new()), 0);
        if keeps { Fate::Keep } else { Fate::Close }
    }
}

impl Link for OriginLink {
    fn give(&mut self, exchange: Exchange, now: Instant) {
        self.socket.out.push(Slice::from(Shared::from(exchange.ask.head_for_origin())));
        self.socket.out.append(exchange.ask.content.clone());
        self.socket.begin(exchange, now);
    }

    fn room(&self) -> usize {
        usize::from(self.socket.exchange.is_none())
    }

    fn silent_since(&self) -> Option<Instant> {
        // Servers take as many connections as they are offered.
        None
    }

    fn on_ready(&mut self, readable: bool, writable: bool) {
        self.socket.on_ready(readable, writable);
    }

    fn turn(&mut self, tools: &mut Tools) -> Fate {
        if self.socket.is_gone() {
            return Fate::Close;
        }
        match self.socket.write() {
            Ok(is_read) => self.keeps &= is_read,
            Err(why) => return self.fail(Status::BadGateway, &why, tools.unix),
        }
        while let Some(read) = self.socket.read(tools) {
            match read {
                Read::Bytes(bytes) => match self.take(&bytes, (tools.now, tools.unix)) {
                    Ok(Step::More) => {}
                    Ok(Step::Ended) => {
                        if let fate @ (Fate::Close | Fate::Retry(_)) = self.end(tools.now) {
                            return fate;
                        }
                    }
                    Err(why) => return self.fail(Status::BadGateway, &why, tools.unix),
                },
                Read::End if matches!(self.reply, State::UntilEnd) => return self.end(tools.now),
                _ => return self.fail(Status::BadGateway, "it closed the connection", tools.unix),
            }
        }
        if self.socket.is_endless(tools) {
            return self.fail(Status::GatewayTimeout, "nobody waits for it, and it does not end", tools.unix);
        }
        if self.socket.is_silent(tools) {
            return self.fail(Status::GatewayTimeout, "it is silent", tools.unix);
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
