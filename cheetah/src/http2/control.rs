//! Frames that carry nothing for anybody: settings, pings, windows, resets, priorities.

use super::MAX_WINDOW;
use super::connection::{Fault, Http2, LAST_PING, Phase, protocol, too_short};
use super::priority::Priority;
use super::stream::Ending;
use crate::http::abuse::Abuse;
use crate::http::frame::{ErrorCode, FrameHeader, MAX_FRAME, flag, kind, setting, u31};
use crate::service::Service;

/// Streams whose priority was told before they began.
const MAX_FORETOLD: usize = 32;

impl Http2 {
    pub(super) fn on_settings(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        if header.stream != 0 {
            return Err(protocol("settings of a stream"));
        }
        if !content.len().is_multiple_of(6) || (header.has(flag::ACK) && !content.is_empty()) {
            return Err(too_short());
        }
        if header.has(flag::ACK) {
            return Ok(());
        }
        self.spend(service, Abuse::Settings)?;
        for parameter in content.chunks_exact(6) {
            let &[a, b, c, d, e, f] = parameter else { continue };
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                setting::ENABLE_PUSH if value > 1 => return Err(protocol("ENABLE_PUSH is 0 or 1")),
                setting::INITIAL_WINDOW_SIZE => self.set_stream_window(i64::from(value))?,
                // Ours are never longer than the least that it may be: longer ones would only let others
                // wait.
                setting::MAX_FRAME_SIZE if !(MAX_FRAME as u32..1 << 24).contains(&value) => {
                    return Err(protocol("MAX_FRAME_SIZE is 16384 to 16777215"));
                }
                _ => {}
            }
        }
        self.send_short(kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    /// Streams that are there get the difference (section 6.9.2); a window may be less than nothing.
    fn set_stream_window(&mut self, window: i64) -> Result<(), Fault> {
        let too_large = Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1");
        if window > MAX_WINDOW {
            return Err(too_large);
        }
        let more = window - std::mem::replace(&mut self.stream_window, window);
        for &(_, key) in &self.keys {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            stream.window += more;
            if stream.window > MAX_WINDOW {
                return Err(too_large);
            }
        }
        let keys: Vec<usize> = self.keys.iter().map(|&(_, key)| key).collect();
        keys.into_iter().for_each(|key| self.schedule(key));
        Ok(())
    }

    pub(super) fn on_ping(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        if header.stream != 0 {
            return Err(protocol("PING of a stream"));
        }
        if content.len() != 8 {
            return Err(too_short());
        }
        if header.has(flag::ACK) {
            if content == LAST_PING && matches!(self.phase, Phase::Draining(_)) {
                self.name_last(service);
            }
            return Ok(());
        }
        self.spend(service, Abuse::Pings)?;
        self.send_short(kind::PING, flag::ACK, 0, content);
        Ok(())
    }

    pub(super) fn on_window_update(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        let increment =
            i64::from(u31(*content.first_chunk().filter(|_| content.len() == 4).ok_or(too_short())?));
        self.spend(service, Abuse::WindowUpdates)?;
        if header.stream == 0 {
            if increment == 0 {
                return Err(protocol("WINDOW_UPDATE by nothing"));
            }
            self.window += increment;
            if self.window > MAX_WINDOW {
                return Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1"));
            }
            return Ok(());
        }
        let Some(key) = self.find(header.stream)? else { return self.spend(service, Abuse::Useless) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        stream.window += increment;
        if increment == 0 {
            return Err(Fault::Stream(header.stream, ErrorCode::PROTOCOL_ERROR));
        }
        if stream.window > MAX_WINDOW {
            return Err(Fault::Stream(header.stream, ErrorCode::FLOW_CONTROL_ERROR));
        }
        self.schedule(key);
        Ok(())
    }

    pub(super) fn on_reset(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        if content.len() != 4 {
            return Err(too_short());
        }
        let Some(key) = self.find(header.stream)? else { return self.spend(service, Abuse::Useless) };
        self.spend(service, Abuse::Resets)?;
        service.stats.http2.resets += 1;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.ending = Ending::PeerReset;
        }
        self.end_stream(service, key);
        Ok(())
    }

    pub(super) fn on_priority(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        if header.stream == 0 {
            return Err(protocol("PRIORITY of no stream"));
        }
        self.spend(service, Abuse::Priorities)?;
        match content.first_chunk::<4>().filter(|_| content.len() == 5) {
            None => Err(Fault::Stream(header.stream, ErrorCode::FRAME_SIZE_ERROR)),
            // RFC 7540 section 5.3.1; what it says otherwise is not followed (RFC 9113 section 5.3.2).
            Some(parent) if u31(*parent) == header.stream => {
                Err(Fault::Stream(header.stream, ErrorCode::PROTOCOL_ERROR))
            }
            Some(_) => Ok(()),
        }
    }

    /// RFC 9218 section 7.1.
    pub(super) fn on_priority_update(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        let Some((id, value)) = content.split_first_chunk::<4>() else { return Err(too_short()) };
        let id = u31(*id);
        if header.stream != 0 || id.is_multiple_of(2) {
            return Err(protocol("PRIORITY_UPDATE of no request"));
        }
        self.spend(service, Abuse::Priorities)?;
        let priority = Priority::parse(value);
        if id > self.last_stream {
            self.foretold.retain(|(other, _)| *other != id);
            if self.foretold.len() < MAX_FORETOLD {
                self.foretold.push((id, priority));
            }
            return Ok(());
        }
        let Some(key) = self.find(id)? else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let before = std::mem::replace(&mut stream.priority, priority);
        if stream.is_scheduled {
            self.schedule.remove((id, key), before);
            self.schedule.add((id, key), priority);
        }
        Ok(())
    }

    /// What was told of the priority of a stream that begins.
    pub(super) fn take_foretold(&mut self, id: u32) -> Option<Priority> {
        let found = self.foretold.iter().find(|(other, _)| *other == id).map(|(_, priority)| *priority);
        self.foretold.retain(|(other, _)| *other > id);
        found
    }
}
