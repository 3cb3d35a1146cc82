//! The requests of a connection that change something: their content is taken in, and the answer waits for
//! the disk.
//!
//! ```text
//!   Head ── PUT, let in ──▶ Upload ── whole ──▶ Waiting ── woken, answered ──▶ Head
//!                             │ refused: too much, nonsense, no room
//!                             └────────▶ Discard
//! ```

use std::sync::LazyLock;

use runtime::buffer::{Shared, Slice};

use super::{Conn, Phase};
use crate::answer;
use crate::body::Body;
use crate::http::date::Persistence;
use crate::http::request::Version;
use crate::http::response::Status;
use crate::response::Response;
use crate::service::Service;
use crate::store::ChangeMade;
use crate::upload::{Taken, Upload};

impl Conn {
    /// Goes on with the content; `is_awaited` if the client asks first.
    pub(super) fn receive(&mut self, service: &mut Service, upload: Box<Upload>, is_awaited: bool) {
        let is_whole = upload.is_whole();
        self.content.set_upload(upload);
        self.phase = Phase::Upload;
        if is_awaited {
            self.go_on(service);
        }
        if is_whole {
            self.submit(service);
        }
    }

    /// `100 Continue` (RFC 9110 section 15.2.1): no answer yet, and nothing for the log.
    pub(super) fn go_on(&mut self, service: &mut Service) {
        static CONTINUE: LazyLock<Shared> =
            LazyLock::new(|| Shared::from(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
        let text = Slice::from(CONTINUE.clone());
        let end = self.end + text.len() as u64;
        self.queue.push_back(Response {
            document: None,
            ready_head: None,
            began: None,
            text,
            line: None,
            body: Body::Empty,
            start: self.end,
            body_start: end,
            end,
        });
        service.stats.bytes += end - self.end;
        self.end = end;
        self.last_progress = service.now();
    }

    /// Takes what belongs to the content off the front of `bytes`; its length.
    pub(super) fn take_content(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        let Some(upload) = self.content.upload_mut() else { return 0 };
        match upload.take(bytes, service.now()) {
            Ok(Taken::More) => bytes.len(),
            Ok(Taken::Whole(len)) => {
                self.submit(service);
                len
            }
            Err(status) => {
                self.answer(service, Err(status), false);
                0
            }
        }
    }

    fn submit(&mut self, service: &mut Service) {
        let Some(upload) = self.content.upload_mut() else { return };
        self.phase = Phase::Waiting;
        upload.submit(service.wakes.connection(self.key));
    }

    /// Answers, if the disk has.
    pub(super) fn answer_upload(&mut self, service: &mut Service) {
        let Some(outcome) = self.content.upload().and_then(|upload| upload.outcome()) else { return };
        self.answer(service, outcome, true);
        if self.phase == Phase::Discard {
            let left = std::mem::take(&mut self.input);
            self.discard(left.len());
        }
    }

    /// Says what the request came to; `is_whole` unless content of it may still come.
    fn answer(&mut self, service: &mut Service, outcome: Result<ChangeMade, Status>, is_whole: bool) {
        let Some(upload) = self.content.take_upload() else { return };
        let asked = &upload.asked;
        let keeps = is_whole && asked.keep_alive && !service.draining;
        let persistence = match (keeps, asked.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, _) => Persistence::Implicit,
        };
        let mut text = std::mem::take(&mut service.text_scratch);
        service.set_secured(self.secured);
        service.enter(upload.host);
        let answer = match outcome {
            Ok(made) => answer::changed(service, &made, persistence, &mut text),
            Err(status) => answer::page(service, status, persistence, true, &mut text),
        };
        let record = asked.record(self.peer).with(answer.status);
        self.push(service, text, answer, persistence, record);
        if keeps {
            self.phase = Phase::Head;
        } else {
            self.phase = Phase::Discard;
            self.lingers = !self.peer_ended && (!is_whole || asked.keep_alive);
        }
    }
}
