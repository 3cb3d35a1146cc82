//! What a server has done so far, as its loops tell it: one table for people, one object for programs.
//!
//! Counts are of all loops together since they began; `open` and `held_bytes` are of the moment of asking.

use std::fmt;
use std::time::Duration;

use netstack::handler::HandlerStats;
use netstack::{device, stack};
use pipe_lib::handler::Verdict;
use runtime::stats::work::{Quantity, Work};
use serde_json::{Map, Value, json};

use crate::accelerator::Snapshot;
use crate::http::abuse::Abuse;
use crate::http::response::Status;
use crate::latency::{BOUNDS_US, Latency};
use crate::service::{Http2Stats, Stats};

/// The counters of one loop, or of several added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Connections and responses.
    pub stats: Stats,
    /// How long responses took.
    pub latency: Latency,
    /// Frames of our own TCP/IP's device; all zero on the kernel's sockets.
    pub device: device::Stats,
    /// Segments and fragments of our own TCP/IP; likewise.
    pub stack: stack::Stats,
    /// What arrival handlers have counted, in the order in which they are asked.
    pub handlers: Vec<HandlerStats>,
    /// Bytes moved and system calls made.
    pub work: Work,
    /// Connections open now.
    pub open: u64,
    /// Bytes that are queued and not yet taken: by the peer on our own TCP/IP, by the socket on the kernel's.
    pub held_bytes: u64,
    /// What is kept of other servers' responses, by all loops together.
    pub cache: Option<Snapshot>,
}

impl Report {
    /// Adds another loop's counters.
    pub fn add(&mut self, other: &Report) {
        self.stats.add(&other.stats);
        self.latency.add(&other.latency);
        self.device.add(&other.device);
        self.stack.add(&other.stack);
        self.work.add(&other.work);
        if self.handlers.is_empty() {
            self.handlers.clone_from(&other.handlers);
        } else {
            self.handlers.iter_mut().zip(&other.handlers).for_each(|(sum, of)| sum.add(of));
        }
        self.open += other.open;
        self.held_bytes += other.held_bytes;
        // Each tells of the same.
        self.cache = other.cache.or(self.cache);
    }

    /// The same for programs: numbers by name, in groups.
    pub fn to_json(&self) -> Value {
        let mut responses: Map<String, Value> =
            self.responses().map(|(code, count)| (code.to_string(), count.into())).collect();
        if self.stats.other_responses > 0 {
            responses.insert("other".to_owned(), self.stats.other_responses.into());
        }
        let work: Map<String, Value> = Quantity::ALL
            .into_iter()
            .map(|quantity| (quantity.name().to_owned(), self.work[quantity].into()))
            .collect();
        let handlers: Vec<Value> = self.handlers.iter().map(handler_json).collect();
        json!({
            "connections": {
                "begun": self.stats.connections,
                "ended": self.stats.closed,
                "open": self.open,
                "timed_out": self.stats.timed_out,
            },
            "http2": http2_json(&self.stats.http2),
            "responses": responses,
            "latency": latency_json(&self.latency),
            "accelerator": self.cache.as_ref().map_or(Value::Null, cache_json),
            "bytes_queued": self.stats.bytes,
            "bytes_held": self.held_bytes,
            "device": {
                "rx_frames": self.device.rx_frames,
                "rx_bytes": self.device.rx_bytes,
                "rx_dropped": self.device.rx_dropped,
                "tx_frames": self.device.tx_frames,
                "tx_bytes": self.device.tx_bytes,
                "tx_dropped": self.device.tx_dropped,
            },
            "tcp": {
                "segments_in": self.stack.segments_in,
                "segments_out": self.stack.segments_out,
                "bytes_out": self.stack.payload_out,
                "bytes_retransmitted": self.stack.payload_retransmitted,
                "resets_out": self.stack.resets_out,
                "passed_on": self.stack.passed_on,
                "bad_checksums": self.stack.bad_checksums,
                "ignored": self.stack.ignored,
            },
            "fragments": {
                "in": self.stack.fragments_in,
                "dropped": self.stack.fragments_dropped,
                "reassembled": self.stack.reassembled,
                "timed_out": self.stack.reassembly_timeouts,
            },
            "handlers": handlers,
            "work": work,
        })
    }

    /// Responses by status code, those that were given at all.
    fn responses(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counted = Status::ALL.into_iter().zip(self.stats.responses);
        counted.filter(|(_, count)| *count > 0).map(|(status, count)| (status.code(), count))
    }
}

fn cache_json(cache: &Snapshot) -> Value {
    let mut json: Map<String, Value> =
        cache.counts.iter().map(|(name, _, count)| ((*name).to_owned(), (*count).into())).collect();
    json.insert("resources".to_owned(), cache.resources.into());
    json.insert("bytes".to_owned(), cache.bytes.into());
    Value::Object(json)
}

/// A table of some twenty lines.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stats, work, device) = (&self.stats, &self.work, &self.device);
        writeln!(
            f,
            "connections         {:>14}  {} ended, {} open, {} timed out",
            stats.connections, stats.closed, self.open, stats.timed_out
        )?;
        let mut by_code: Vec<String> =
            self.responses().map(|(code, count)| format!("{count} of {code}")).collect();
        if stats.other_responses > 0 {
            by_code.push(format!("{} of others", stats.other_responses));
        }
        writeln!(f, "responses           {:>14}  {}", stats.total_responses(), by_code.join(", "))?;
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
        let latency = &self.latency;
        writeln!(
            f,
            "latency             {:>14}  in the middle, {} at 99 %, {} at most",
            ms(latency.quantile(0.5)),
            ms(latency.quantile(0.99)),
            ms(latency.max())
        )?;
        let http2 = &stats.http2;
        if http2.connections > 0 {
            writeln!(
                f,
                "of HTTP/2           {:>14}  connections with {} streams, {} of them reset, {} refused; {} ended by errors",
                http2.connections, http2.streams, http2.resets, http2.refused, http2.errors
            )?;
        }
        if let Some(cache) = &self.cache {
            let counts = cache.counts[1..].iter().map(|(name, _, count)| format!("{count} {name}"));
            let counts = counts.collect::<Vec<_>>().join(", ");
            writeln!(f, "hits                {:>14}  {counts}", cache.counts[0].2)?;
            writeln!(f, "kept of origins     {:>14}  addresses, {} bytes", cache.resources, cache.bytes)?;
        }
        writeln!(f, "bytes queued        {:>14}", stats.bytes)?;
        writeln!(f, "bytes held          {:>14}  queued and not yet taken", self.held_bytes)?;
        let sent = work[Quantity::BytesSent];
        writeln!(f, "bytes sent          {sent:>14}  retransmitted ones again")?;
        for (name, quantity) in [
            ("copied by us", Quantity::BytesCopied),
            ("summed by us", Quantity::BytesSummed),
            ("touched by us", Quantity::BytesTouched),
            ("sum was known", Quantity::BytesOfKnownSum),
            ("by address", Quantity::BytesReferenced),
            ("by reference", Quantity::BytesByReference),
        ] {
            let bytes = work[quantity];
            writeln!(f, "  {name:<18}{bytes:>14}  {} of those sent", share(bytes, sent))?;
        }
        writeln!(f, "frames sent         {:>14}  {} dropped", device.tx_frames, device.tx_dropped)?;
        writeln!(f, "frames received     {:>14}  {} dropped", device.rx_frames, device.rx_dropped)?;
        let stack = &self.stack;
        let again = share(stack.payload_retransmitted, stack.payload_out);
        writeln!(f, "segments sent       {:>14}  {again} of the bytes again", stack.segments_out)?;
        writeln!(
            f,
            "segments received   {:>14}  {} resets in answer, {} bad checksums, {} packets ignored",
            stack.segments_in, stack.resets_out, stack.bad_checksums, stack.ignored
        )?;
        if stack.passed_on > 0 {
            writeln!(f, "frames passed on    {:>14}  to the stack of another thread", stack.passed_on)?;
        }
        writeln!(
            f,
            "fragments received  {:>14}  {} dropped, {} datagrams put together, {} never whole",
            stack.fragments_in, stack.fragments_dropped, stack.reassembled, stack.reassembly_timeouts
        )?;
        for handler in &self.handlers {
            let [_, drop, kernel, answer, steer] = handler.verdicts;
            let own = handler.counters.iter().map(|(name, count)| format!(", {count} {name}"));
            writeln!(
                f,
                "handler             {:>14}  {}: {drop} dropped, {kernel} to the kernel, {answer} answered, {steer} steered{}",
                handler.verdicts.iter().sum::<u64>(),
                handler.name,
                own.collect::<String>()
            )?;
        }
        let calls = work.calls();
        let a_response = share(calls, stats.total_responses());
        writeln!(f, "system calls        {calls:>14}  {a_response} a response")?;
        for (name, quantity) in [
            ("to wait", Quantity::CallsToWait),
            ("to receive", Quantity::CallsToReceive),
            ("to send", Quantity::CallsToSend),
            ("other", Quantity::OtherCalls),
        ] {
            writeln!(f, "  {name:<18}{:>14}", work[quantity])?;
        }
        let (found, read) = (work[Quantity::BlocksFound], work[Quantity::BlocksRead]);
        let (share, damaged) = (share(found, found + read), work[Quantity::BlocksDamaged]);
        writeln!(
            f,
            "blocks of files     {:>14}  {share} found in the cache, {damaged} refused as damaged",
            found + read
        )?;
        let (scrubbed, bad) = (work[Quantity::BytesScrubbed], work[Quantity::PagesFoundDamaged]);
        if scrubbed > 0 {
            writeln!(f, "bytes scrubbed      {scrubbed:>14}  {bad} pages damaged")?;
        }
        Ok(())
    }
}

/// Latencies in microseconds; the buckets with their upper ends, the last without one.
fn latency_json(latency: &Latency) -> Value {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let ends = BOUNDS_US.into_iter().map(Value::from).chain([Value::Null]);
    let buckets: Vec<Value> = ends.zip(latency.buckets()).map(|(end, count)| json!([end, count])).collect();
    json!({
        "count": latency.count(),
        "sum_us": us(latency.sum()),
        "p50_us": us(latency.quantile(0.5)),
        "p99_us": us(latency.quantile(0.99)),
        "max_us": us(latency.max()),
        "buckets": buckets,
    })
}

/// What is of HTTP/2 alone.
fn http2_json(http2: &Http2Stats) -> Value {
    let abuses = Abuse::ALL.into_iter().zip(http2.abuses);
    let abuses: Map<String, Value> =
        abuses.map(|(abuse, count)| (abuse.name().to_owned(), count.into())).collect();
    json!({
        "connections": http2.connections,
        "streams": http2.streams,
        "streams_refused": http2.refused,
        "streams_reset": http2.resets,
        "connections_failed": http2.errors,
        "floods": abuses,
    })
}

/// A handler's frames by verdict, and its own counters.
fn handler_json(handler: &HandlerStats) -> Value {
    let verdicts = Verdict::ALL.map(Verdict::name).into_iter().zip(handler.verdicts);
    let verdicts: Map<String, Value> =
        verdicts.map(|(name, count)| (name.to_owned(), count.into())).collect();
    let counters: Map<String, Value> =
        handler.counters.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
    json!({ "name": handler.name, "verdicts": verdicts, "counters": counters })
}

/// A ratio with two decimals, or a dash where there is none.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.2}", part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_add_up_and_tell_the_same_in_both_forms() {
        let mut one = Report { open: 2, held_bytes: 10, ..Report::default() };
        one.stats.connections = 3;
        one.stats.responses[0] = 7;
        one.stats.http2.connections = 1;
        one.stats.http2.streams = 8;
        one.stats.http2.abuses[Abuse::Pings as usize] = 1;
        one.device.tx_frames = 5;
        one.stack.fragments_in = 4;
        one.stack.fragments_dropped = 1;
        one.stack.reassembled = 2;
        one.stack.reassembly_timeouts = 3;
        let counters = vec![("seen".to_owned(), 9)];
        one.handlers = vec![HandlerStats { name: "mine".to_owned(), verdicts: [1, 2, 3, 4, 5], counters }];
        let mut sum = one.clone();
        sum.add(&one);
        let json = sum.to_json();
        assert_eq!(json["connections"]["begun"], 6);
        assert_eq!(json["connections"]["open"], 4);
        assert_eq!((&json["http2"]["streams"], &json["http2"]["floods"]["pings"]), (&json!(16), &json!(2)));
        assert_eq!(json["responses"][Status::ALL[0].code().to_string()], 14);
        assert_eq!(json["bytes_held"], 20);
        assert_eq!(json["device"]["tx_frames"], 10);
        let fragments = json!({ "in": 8, "dropped": 2, "reassembled": 4, "timed_out": 6 });
        assert_eq!(json["fragments"], fragments);
        let line = "fragments received               8  2 dropped, 4 datagrams put together, 6 never whole";
        assert!(sum.to_string().lines().any(|of| of == line), "{sum}");
        let verdicts = json!({ "pass": 2, "drop": 4, "kernel": 6, "answer": 8, "steer": 10 });
        let handler = json!({ "name": "mine", "verdicts": verdicts, "counters": { "seen": 18 } });
        assert_eq!(json["handlers"], json!([handler]));
        let line = "handler                         30  mine: 4 dropped, 6 to the kernel, 8 answered, 10 steered, 18 seen";
        assert!(sum.to_string().lines().any(|of| of == line), "{sum}");
        assert_eq!(json["work"].as_object().unwrap().len(), Quantity::ALL.len());
        let table = sum.to_string();
        for part in ["connections                      6", "14 of 200", "frames sent                     10"]
        {
            assert!(table.contains(part), "{part}: {table}");
        }
    }
}
