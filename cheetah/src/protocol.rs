//! A connection by the version of HTTP that it speaks: [`Conn`] until it turns out to be [`Http2`], by what
//! TLS agreed on or by the preface that it begins with. The same calls for both.

use runtime::payload::{PayloadSource, Piece};
use runtime::time::Instant;

use crate::access_log::Peer;
use crate::conn::Conn;
use crate::http2::{Http2, PREFACE};
use crate::service::Service;

/// HTTP/1.1 or HTTP/2.
#[derive(Debug)]
pub(crate) enum Protocol {
    Http1(Conn),
    Http2(Box<Http2>),
}

impl Protocol {
    pub(crate) fn new(service: &mut Service, peer: Peer) -> Protocol {
        Protocol::Http1(Conn::new(service, peer))
    }

    /// As [`Conn::reset`].
    pub(crate) fn reset(&mut self, service: &mut Service, peer: Peer) {
        match self {
            Protocol::Http1(conn) => conn.reset(service, peer),
            Protocol::Http2(_) => {
                self.retire(service);
                *self = Protocol::new(service, peer);
            }
        }
    }

    /// As [`Conn::retire`].
    pub(crate) fn retire(&mut self, service: &mut Service) {
        match self {
            Protocol::Http1(conn) => conn.retire(service),
            Protocol::Http2(http2) => http2.retire(service),
        }
    }

    /// Goes over to HTTP/2: nothing was answered yet.
    pub(crate) fn turn_to_http2(&mut self, service: &mut Service) {
        if let Protocol::Http1(conn) = self {
            let (peer, key, secured) = conn.who();
            conn.retire(service);
            *self = Protocol::Http2(Box::new(Http2::new(service, peer, key, secured)));
        }
    }

    /// HTTP/1.1's, if it speaks that.
    pub(crate) fn http1(&mut self) -> Option<&mut Conn> {
        match self {
            Protocol::Http1(conn) => Some(conn),
            Protocol::Http2(_) => None,
        }
    }

    /// As [`Conn::on_bytes`].
    pub(crate) fn on_bytes(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        match self {
            Protocol::Http2(http2) => http2.on_bytes(service, bytes),
            Protocol::Http1(conn) => {
                let Some(held) = conn.beginning().filter(|_| service.options.http2) else {
                    return conn.on_bytes(service, bytes);
                };
                match of_preface(held, bytes) {
                    Some(true) => {
                        let held = held.to_vec();
                        self.turn_to_http2(service);
                        if !held.is_empty() {
                            self.on_bytes(service, &held);
                        }
                        self.on_bytes(service, bytes)
                    }
                    Some(false) => {
                        conn.hold(service, bytes);
                        bytes.len()
                    }
                    None => conn.on_bytes(service, bytes),
                }
            }
        }
    }

    /// As [`Conn::resume`].
    pub(crate) fn resume(&mut self, service: &mut Service) {
        match self {
            // Nobody knows yet whose request that is.
            Protocol::Http1(conn) if !service.draining && is_held(conn, service) => {}
            Protocol::Http1(conn) => conn.resume(service),
            Protocol::Http2(http2) => http2.resume(service),
        }
    }

    /// As [`Conn::on_end`].
    pub(crate) fn on_end(&mut self, service: &mut Service) {
        match self {
            Protocol::Http1(conn) => conn.on_end(service),
            Protocol::Http2(http2) => http2.on_end(service),
        }
    }

    /// As [`Conn::on_timeout`].
    pub(crate) fn on_timeout(&mut self, service: &mut Service) -> bool {
        match self {
            Protocol::Http1(conn) => conn.on_timeout(service),
            Protocol::Http2(http2) => http2.on_timeout(service),
        }
    }

    /// As [`Conn::drain`].
    pub(crate) fn drain(&mut self, service: &mut Service) {
        match self {
            Protocol::Http1(conn) => conn.drain(),
            Protocol::Http2(http2) => http2.drain(service),
        }
    }

    /// As [`Conn::touch`].
    pub(crate) fn touch(&mut self, service: &Service) {
        match self {
            Protocol::Http1(conn) => conn.touch(service),
            Protocol::Http2(http2) => http2.touch(service),
        }
    }

    /// As [`PayloadSource::acknowledged`].
    pub(crate) fn acknowledged(&mut self, offset: u64) {
        match self {
            Protocol::Http1(conn) => conn.acknowledged(offset),
            Protocol::Http2(http2) => http2.acknowledged(offset),
        }
    }

    /// As [`Conn::set_key`].
    pub(crate) fn set_key(&mut self, key: u32) {
        match self {
            Protocol::Http1(conn) => conn.set_key(key),
            Protocol::Http2(http2) => http2.set_key(key),
        }
    }

    /// As [`Conn::deadline`].
    pub(crate) fn deadline(&self, service: &Service) -> Option<Instant> {
        match self {
            Protocol::Http1(conn) => conn.deadline(service),
            Protocol::Http2(http2) => http2.deadline(service),
        }
    }

    /// As [`Conn::window`].
    pub(crate) fn window(&self, service: &Service) -> usize {
        match self {
            Protocol::Http1(conn) => conn.window(service),
            Protocol::Http2(http2) => http2.window(),
        }
    }

    /// As [`Conn::place`]. What HTTP/2 frames hold is found when they are looked at.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        match self {
            Protocol::Http1(conn) => conn.place(bytes),
            Protocol::Http2(_) => None,
        }
    }

    /// As [`Conn::forget_placed`].
    pub(crate) fn forget_placed(&mut self) {
        if let Protocol::Http1(conn) = self {
            conn.forget_placed();
        }
    }

    /// As [`Conn::content_room`].
    pub(crate) fn content_room(&self) -> usize {
        match self {
            Protocol::Http1(conn) => conn.content_room(),
            Protocol::Http2(http2) => http2.content_room(),
        }
    }

    /// As [`Conn::is_aborted`].
    pub(crate) fn is_aborted(&self) -> bool {
        match self {
            Protocol::Http1(conn) => conn.is_aborted(),
            Protocol::Http2(http2) => http2.is_aborted(),
        }
    }

    /// As [`Conn::lingers`].
    pub(crate) fn lingers(&self) -> bool {
        match self {
            Protocol::Http1(conn) => conn.lingers(),
            Protocol::Http2(http2) => http2.lingers(),
        }
    }

    /// As [`Conn::acknowledged_end`].
    pub(crate) fn acknowledged_end(&self) -> u64 {
        match self {
            Protocol::Http1(conn) => conn.acknowledged_end(),
            Protocol::Http2(http2) => http2.acknowledged_end(),
        }
    }

    /// As [`PayloadSource::end`].
    pub(crate) fn end(&self) -> u64 {
        match self {
            Protocol::Http1(conn) => conn.end(),
            Protocol::Http2(http2) => http2.end(),
        }
    }

    /// As [`PayloadSource::is_finished`].
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Protocol::Http1(conn) => conn.is_finished(),
            Protocol::Http2(http2) => http2.is_finished(),
        }
    }

    /// As [`Conn::for_each_piece`].
    pub(crate) fn for_each_piece<'a>(
        &'a self,
        offset: u64,
        len: usize,
        visit: impl FnMut(Piece<'a>) -> bool,
    ) {
        match self {
            Protocol::Http1(conn) => conn.for_each_piece(offset, len, visit),
            Protocol::Http2(http2) => http2.for_each_piece(offset, len, visit),
        }
    }

    /// As [`Conn::are_settled`].
    pub(crate) fn are_settled(&self, offset: u64, len: usize) -> bool {
        match self {
            Protocol::Http1(conn) => conn.are_settled(offset, len),
            Protocol::Http2(http2) => http2.are_settled(offset, len),
        }
    }

    /// As [`Conn::part_end`].
    pub(crate) fn part_end(&self, offset: u64) -> Option<u64> {
        match self {
            Protocol::Http1(conn) => conn.part_end(offset),
            Protocol::Http2(http2) => http2.part_end(offset),
        }
    }
}

/// Whether what has come may become the preface.
fn is_held(conn: &Conn, service: &Service) -> bool {
    let beginning = conn.beginning().filter(|_| service.options.http2);
    beginning.is_some_and(|beginning| !beginning.is_empty() && PREFACE.starts_with(beginning))
}

/// Whether `held` and `bytes` are the preface of HTTP/2 and perhaps more, or (`Some(false)`) may become it.
fn of_preface(held: &[u8], bytes: &[u8]) -> Option<bool> {
    let mut all = held.iter().chain(bytes).zip(PREFACE);
    all.all(|(byte, expected)| byte == expected)
        .then_some(held.len() + bytes.len() >= PREFACE.len())
        .filter(|_| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::NoSite;
    use crate::service::Options;
    use std::sync::Arc;

    #[test]
    fn http_1_costs_no_more_for_it() {
        assert_eq!(size_of::<Protocol>(), size_of::<Conn>());
    }

    /// Whether it is a preface that drips or the head of a request that begins as one does, as the `last`
    /// byte shows.
    fn drips(last: &[u8]) {
        let mut service = Service::new(Arc::new(NoSite), Options::default());
        let mut protocol = Protocol::new(&mut service, None);
        let head = service.options.timeouts.head;
        let began = Instant::from_millis(1000);
        let mut at = began;
        for byte in PREFACE.iter().take(5) {
            service.set_time(at, 0);
            assert!(!protocol.on_timeout(&mut service));
            protocol.on_bytes(&mut service, &[*byte]);
            assert_eq!(protocol.deadline(&service), Some(began + head));
            at = at + head / 8;
        }
        service.set_time(at, 0);
        protocol.on_bytes(&mut service, last);
        assert_eq!(protocol.deadline(&service), Some(began + head), "{last:?}");
        service.set_time(began + head, 0);
        assert!(protocol.on_timeout(&mut service));
    }

    #[test]
    fn a_time_out_counts_from_the_first_byte() {
        drips(b" ");
        drips(b"/ HTTP/1.1\r\nHost: a\r\n");
    }

    #[test]
    fn the_preface_is_known_at_any_cut() {
        for cut in 0..PREFACE.len() {
            let (held, rest) = PREFACE.split_at(cut);
            assert_eq!(of_preface(held, rest), Some(true));
            assert_eq!(of_preface(held, &[rest, b"x"].concat()), Some(true));
            if rest.len() > 1 {
                assert_eq!(of_preface(held, &rest[..rest.len() - 1]), Some(false));
            }
            assert_eq!(of_preface(held, b"?"), None);
        }
        assert_eq!(of_preface(b"", b"POST / HTTP/1.1\r\n"), None);
        assert_eq!(of_preface(b"P", b"UT"), None);
    }
}
