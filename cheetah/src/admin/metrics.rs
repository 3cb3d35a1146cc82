//! The counters as OpenMetrics 1.0 text, which Prometheus reads.

use std::fmt;

use pipe_lib::handler::Verdict;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use runtime::stats::work::Quantity;

use crate::http::abuse::Abuse;
use crate::http::response::Status;
use crate::latency::BOUNDS_US;
use crate::report::Report;

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text for `report`.
pub(super) fn encode(report: &Report) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Counters(report.clone())));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Counters(Report);

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Report { stats, latency, device, stack, handlers, work, open, held_bytes, cache } = &self.0;
        for (name, help, value) in [
            ("cheetah_connections_open", "Connections that are open", *open),
            ("cheetah_bytes_held", "Bytes queued and not yet taken", *held_bytes),
        ] {
            let of = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(of)?;
        }
        for (name, help, value) in [
            ("cheetah_connections", "Connections begun", stats.connections),
            ("cheetah_connections_ended", "Connections that are over", stats.closed),
            ("cheetah_connections_timed_out", "Connections cut since the peer was too slow", stats.timed_out),
            ("cheetah_http2_connections", "Connections that spoke HTTP/2", stats.http2.connections),
            ("cheetah_http2_streams", "Streams begun", stats.http2.streams),
            ("cheetah_http2_streams_refused", "Streams beyond those allowed at once", stats.http2.refused),
            ("cheetah_http2_streams_reset", "Streams ended early by either side", stats.http2.resets),
            ("cheetah_http2_connections_failed", "Connections ended by an error", stats.http2.errors),
            ("cheetah_bytes_queued", "Bytes of heads and bodies queued", stats.bytes),
            ("cheetah_tcp_payload_bytes", "Payload that our own TCP sent", stack.payload_out),
            ("cheetah_tcp_retransmitted_bytes", "Of it, sent again", stack.payload_retransmitted),
            ("cheetah_tcp_resets", "Resets that our own TCP sent", stack.resets_out),
            ("cheetah_tcp_bad_checksums", "Segments with a bad checksum", stack.bad_checksums),
        ] {
            let of = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(of)?;
        }
        if let Some(cache) = cache {
            for (name, help, value) in [
                ("cheetah_accelerator_resources", "Addresses of which something is kept", cache.resources),
                ("cheetah_accelerator_bytes", "Memory that it takes", cache.bytes),
            ] {
                let of = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(of)?;
            }
            for (name, help, count) in cache.counts {
                let name = format!("cheetah_accelerator_{name}");
                let of = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
                ConstCounter::new(count).encode(of)?;
            }
        }
        let codes = Status::ALL.into_iter().map(|status| status.code().to_string());
        let others = ("other".to_owned(), stats.other_responses);
        let responses: Vec<(String, u64)> =
            codes.zip(stats.responses).chain([others]).filter(|(_, count)| *count > 0).collect();
        let work: Vec<(String, u64)> =
            Quantity::ALL.into_iter().map(|quantity| (quantity.name().to_owned(), work[quantity])).collect();
        let floods: Vec<(String, u64)> = Abuse::ALL
            .into_iter()
            .zip(stats.http2.abuses)
            .map(|(abuse, count)| (abuse.name().to_owned(), count))
            .collect();
        let way = |received: u64, sent: u64| vec![("in".to_owned(), received), ("out".to_owned(), sent)];
        for (name, help, label, values) in [
            ("cheetah_responses", "Responses by status code", "code", responses),
            ("cheetah_http2_floods", "HTTP/2 connections ended for too much of a kind", "kind", floods),
            ("cheetah_work", "What was done with bytes, blocks and system calls", "kind", work),
            ("cheetah_device_frames", "Frames", "way", way(device.rx_frames, device.tx_frames)),
            ("cheetah_device_bytes", "Bytes of frames", "way", way(device.rx_bytes, device.tx_bytes)),
            ("cheetah_device_dropped", "Frames dropped", "way", way(device.rx_dropped, device.tx_dropped)),
            (
                "cheetah_tcp_segments",
                "Segments of our own TCP",
                "way",
                way(stack.segments_in, stack.segments_out),
            ),
        ] {
            let mut of = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in values {
                ConstCounter::new(count).encode(of.encode_family(&[(label, value)])?)?;
            }
        }
        let (name, help) = ("cheetah_response_seconds", "From a request to when its response was taken");
        let mut of = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let ends = BOUNDS_US.into_iter().map(|us| us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = ends.zip(latency.buckets()).collect();
        of.encode_histogram::<NoLabelSet>(latency.sum().as_secs_f64(), latency.count(), &buckets, None)?;
        if handlers.is_empty() {
            return Ok(());
        }
        let (name, help) = ("cheetah_handler_frames", "Frames by what an arrival handler said of them");
        let mut of = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for handler in handlers {
            for (verdict, count) in Verdict::ALL.into_iter().zip(handler.verdicts) {
                let labels = [("handler", handler.name.as_str()), ("verdict", verdict.name())];
                ConstCounter::new(count).encode(of.encode_family(&labels)?)?;
            }
        }
        let (name, help) = ("cheetah_handler_counts", "What arrival handlers count themselves");
        let mut of = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for handler in handlers {
            for (counter, count) in &handler.counters {
                let labels = [("handler", handler.name.as_str()), ("counter", counter.as_str())];
                ConstCounter::new(*count).encode(of.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::time::Instant;
    use std::time::Duration;

    #[test]
    fn the_text_has_every_counter_once_and_ends() {
        let mut report = Report { open: 2, ..Report::default() };
        report.stats.connections = 3;
        report.stats.responses[0] = 7;
        report.device.tx_frames = 5;
        for took_us in [70, 80, 70_000_000] {
            report.latency.note(Instant::ZERO);
            report.latency.end_turn(Instant::ZERO + Duration::from_micros(took_us));
        }
        let counters = vec![("seen".to_owned(), 9)];
        let name = "mine".to_owned();
        report.handlers = vec![netstack::handler::HandlerStats { name, verdicts: [1, 2, 3, 4, 5], counters }];
        let text = encode(&report);
        for line in [
            "# TYPE cheetah_connections counter",
            "cheetah_connections_total 3",
            "# TYPE cheetah_connections_open gauge",
            "cheetah_connections_open 2",
            "cheetah_responses_total{code=\"200\"} 7",
            "cheetah_device_frames_total{way=\"out\"} 5",
            "cheetah_handler_frames_total{handler=\"mine\",verdict=\"answer\"} 4",
            "cheetah_handler_counts_total{handler=\"mine\",counter=\"seen\"} 9",
            "# TYPE cheetah_response_seconds histogram",
            "cheetah_response_seconds_bucket{le=\"0.00005\"} 0",
            "cheetah_response_seconds_bucket{le=\"0.0001\"} 2",
            "cheetah_response_seconds_bucket{le=\"10.0\"} 2",
            "cheetah_response_seconds_bucket{le=\"+Inf\"} 3",
            "cheetah_response_seconds_count 3",
            "cheetah_response_seconds_sum 60.00015",
            "cheetah_work_total{kind=\"bytes_sent\"} 0",
        ] {
            assert_eq!(text.lines().filter(|of| *of == line).count(), 1, "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        let mut names: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
