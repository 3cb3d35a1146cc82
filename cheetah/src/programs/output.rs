//! What a program says, as it comes: a head, checked, then content, which goes on as it is.

use runtime::buffer::{Aggregate, Shared, Slice};
use runtime::stats::work::{Quantity, count};

use super::kept::{self, Course, Keeping};
use crate::accelerator::{Fill, PSEUDONYM};
use crate::http::date;
use crate::http::foreign::{self, BadHead, ForeignHead};
use crate::http::response::Status;
use crate::live::{self, ConnectionWaker, Receiver, Sender};

/// Content that may wait for its client before the program is read no further.
const MAX_WAITING: usize = 64 * 1024;

/// The response of a program, from its side.
#[derive(Debug)]
pub(super) struct Output {
    sender: Sender,
    /// What came of the head, until all of it has.
    head: Vec<u8>,
    has_head: bool,
    /// Content is thrown away: the client asked by HEAD, or the status has none.
    without_body: bool,
    /// Content that has still to come, of what was announced.
    left: Option<u64>,
    /// Whether a byte has come.
    is_begun: bool,
    /// What else becomes of it, if it is another server's.
    keeping: Option<Box<Keeping>>,
}

impl Output {
    /// Both ends of a response.
    pub(super) fn new(is_head: bool) -> (Output, Receiver) {
        let (sender, receiver) = live::with_head(MAX_WAITING);
        let output = Output {
            sender,
            head: Vec::new(),
            has_head: false,
            without_body: is_head,
            left: None,
            is_begun: false,
            keeping: None,
        };
        (output, receiver)
    }

    /// Whom to wake when there is room again, or the client is gone.
    pub(super) fn wake_by(&self, waker: ConnectionWaker) {
        self.sender.wake_by(waker.clone());
        if let Some(keeping) = &self.keeping {
            keeping.wake_by(waker);
        }
    }

    /// What becomes of it beside what its client gets.
    pub(super) fn keep(&mut self, keeping: Keeping) {
        self.keeping = Some(Box::new(keeping));
    }

    /// The end that the client has the other of.
    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Gives the client what another one's response is.
    ///
    /// # Errors
    /// Itself, if that is not for others any more.
    pub(super) fn join(self, fill: &Fill, note: &str) -> Result<(), Output> {
        fill.join(self.sender, note.as_bytes()).map_err(|sender| Output { sender, ..Output::new(false).0 })
    }

    /// A response without content that nobody was asked for.
    pub(super) fn answer(self, head: ForeignHead) {
        self.sender.send_head(head);
        self.sender.finish();
    }

    /// That was all, whatever was announced.
    pub(super) fn end(self) {
        self.sender.finish();
    }

    /// Whether more may be read from the program.
    pub(super) fn has_room(&self) -> bool {
        let is_kept = self.keeping.as_ref().is_some_and(|keeping| keeping.is_kept());
        let others = self.keeping.as_ref().and_then(|keeping| keeping.has_room());
        is_kept || (others.unwrap_or(true) && (self.sender.is_gone() || self.sender.has_room()))
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_gone() && !self.keeping.as_ref().is_some_and(|keeping| keeping.is_wanted())
    }

    /// Whether it goes on to be kept alone: no client waits for it.
    pub(super) fn is_unattended(&self) -> bool {
        self.sender.is_gone() && !self.keeping.as_ref().is_some_and(|keeping| keeping.is_followed())
    }

    /// The head of another server's response, at the second `now`.
    pub(super) fn take_reply(&mut self, mut head: ForeignHead, now: u64) {
        if !head.is_signed {
            // RFC 9110 section 6.6.1: when it came, if it does not say when it was made.
            head.push(b"Date", &date::format(now));
            head.is_signed = true;
        }
        head.push(b"Via", format!("1.1 {PSEUDONYM}").as_bytes());
        let Some(keeping) = &mut self.keeping else { return self.take_head(head) };
        match keeping.on_head(head, now) {
            Course::Forward(head) => self.take_head(head),
            Course::Instead(object, note) => {
                kept::send(&self.sender, &object, keeping.client_head(), now, &note);
                (self.is_begun, self.has_head, self.without_body) = (true, true, true);
            }
        }
    }

    /// Whether the program has said anything.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Bytes of a program that writes head and content one behind the other.
    ///
    /// # Errors
    /// If that is no head.
    pub(super) fn take(&mut self, bytes: Slice) -> Result<(), BadHead> {
        self.is_begun = true;
        if self.has_head {
            self.take_content(bytes.into());
            return Ok(());
        }
        let before = self.head.len();
        let most = (foreign::MAX_HEAD + 1 - before).min(bytes.len());
        self.head.extend_from_slice(&bytes.bytes()[..most]);
        let Some(len) = foreign::head_len(&self.head) else {
            return if self.head.len() > foreign::MAX_HEAD { Err(BadHead::TooLong) } else { Ok(()) };
        };
        let head = ForeignHead::parse(&self.head[..len])?;
        self.head = Vec::new();
        self.take_head(head);
        // The empty line ends in these bytes, or it would have been found before.
        self.take_content(bytes.part(len - before..bytes.len()).into());
        Ok(())
    }

    /// The head.
    pub(super) fn take_head(&mut self, head: ForeignHead) {
        (self.is_begun, self.has_head) = (true, true);
        self.without_body |= !head.may_have_content();
        self.left = head.length;
        self.sender.send_head(head);
    }

    /// Content. What lies beyond the announced length is cut off.
    pub(super) fn take_content(&mut self, mut bytes: Aggregate) {
        if self.without_body || bytes.is_empty() {
            return;
        }
        if let Some(left) = &mut self.left {
            if bytes.len() as u64 > *left {
                tracing::warn!(
                    "a program's response is longer than its Content-Length says: the rest is left out"
                );
                bytes = bytes.split_to(usize::try_from(*left).unwrap_or(usize::MAX));
            }
            *left -= bytes.len() as u64;
        }
        if let Some(keeping) = &mut self.keeping {
            if keeping.is_kept() && !(self.sender.has_room() && keeping.is_at_pace()) {
                // The origin is read on whatever its clients take: buffers to read into are few, and do not
                // wait for that.
                let copy = bytes.slices().iter().map(Slice::bytes).collect::<Vec<_>>().concat();
                count(Quantity::BytesCopied, copy.len());
                bytes = Slice::from(Shared::from(copy)).into();
            }
            keeping.on_content(&bytes);
        }
        self.sender.push(bytes);
    }

    /// The program has said all.
    pub(super) fn finish(mut self) {
        if !self.has_head {
            let why = if self.is_begun { "its head is not whole" } else { "it said nothing" };
            self.fail(Status::BadGateway, why);
        } else if !self.without_body && self.left.is_some_and(|left| left > 0) {
            self.fail(Status::BadGateway, "its response is shorter than its Content-Length says");
        } else {
            if let Some(keeping) = &mut self.keeping {
                keeping.on_end();
            }
            self.sender.finish();
        }
    }

    /// There is no more, and why: the client gets `status`, or half a response that is recognised as such.
    pub(super) fn fail(self, status: Status, why: &str) {
        self.fail_at(status, why, None);
    }

    /// The same at the second `now`: what is kept may be sent instead, if nothing has come.
    pub(super) fn fail_at(mut self, status: Status, why: &str, now: Option<u64>) {
        if !self.is_gone() {
            tracing::warn!("a program failed ({}): {why}", status.code());
        }
        if let Some(keeping) = &mut self.keeping {
            let instead =
                now.filter(|_| !self.has_head).and_then(|now| Some((keeping.on_failure(status, now)?, now)));
            keeping.on_fault(status);
            if let Some(((object, note), now)) = instead {
                kept::send(&self.sender, &object, keeping.client_head(), now, &note);
                return self.sender.finish();
            }
        }
        self.sender.fail(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::End;
    use proptest::prelude::*;
    use runtime::buffer::Shared;

    fn slice(bytes: &[u8]) -> Slice {
        Slice::from(Shared::from(bytes.to_vec()))
    }

    fn flat(bytes: &Aggregate) -> Vec<u8> {
        bytes.slices().iter().flat_map(Slice::bytes).copied().collect()
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(cuts in prop::collection::vec(1usize..9, 1..20), cr in any::<bool>()) {
            let end = if cr { "\r\n" } else { "\n" };
            let text = format!("Status: 201{end}Content-Length: 11{end}{end}hello\n\nworld");
            let text = &text[..text.len() - 1];
            let (mut output, receiver) = Output::new(false);
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (part, after) = rest.split_at(rest.len().min(*cut));
                output.take(slice(part)).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            output.finish();
            let head = receiver.take_head().unwrap().unwrap();
            prop_assert_eq!((head.code, head.length), (201, Some(11)));
            let (bytes, end) = receiver.take();
            prop_assert_eq!((flat(&bytes), end), (b"hello\n\nworl".to_vec(), Some(End::Finished)));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_is_too_short_fails() {
        let (mut output, receiver) = Output::new(false);
        output.take(slice(b"Content-Length: 3\n\nabcdef")).unwrap();
        output.finish();
        assert!(receiver.take_head().unwrap().is_ok());
        assert_eq!(flat(&receiver.take().0), b"abc");
        for said in [&b"Content-Length: 3\n\nab"[..], b"Content-Type: half", b""] {
            let (mut output, receiver) = Output::new(false);
            output.take(slice(said)).unwrap();
            output.finish();
            assert_eq!(receiver.take_head(), Some(Err(Status::BadGateway)), "{said:?}");
        }
        let (mut output, _receiver) = Output::new(false);
        assert_eq!(output.take(slice(&b"A: b\n".repeat(4000))), Err(BadHead::TooLong));
    }

    #[test]
    fn no_content_where_there_is_none() {
        for (is_head, head) in [(true, "Content-Length: 9"), (false, "Status: 304"), (false, "Status: 204")] {
            let (mut output, receiver) = Output::new(is_head);
            output.take(slice(format!("{head}\n\nxyz").as_bytes())).unwrap();
            output.finish();
            assert!(receiver.take_head().unwrap().is_ok());
            let (bytes, end) = receiver.take();
            assert_eq!((bytes.len(), end), (0, Some(End::Finished)));
        }
    }
}
