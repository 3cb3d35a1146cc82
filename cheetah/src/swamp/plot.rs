//! What came of it as a picture: latency by percentile, and rate and latency second by second.

use std::fmt::Write;
use std::time::Duration;

use super::ledger::Ledger;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 230.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const BLUE: &str = "#22577a";
const RED: &str = "#e07a5f";

/// Percentiles that are marked: as many nines as there are answers to tell them by.
const MARKS: [f64; 7] = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

/// A picture of `ledger`, self-contained.
pub fn svg(heading: &str, ledger: &Ledger) -> String {
    let height = 40.0 + 2.0 * (PANEL + 60.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"13\">{}</text>\n",
        escape(heading)
    );
    draw_percentiles(&mut out, ledger);
    draw_seconds(&mut out, ledger);
    out.push_str("</svg>\n");
    out
}

fn draw_percentiles(out: &mut String, ledger: &Ledger) {
    let top = 50.0;
    let answers = ledger.answers().max(1) as f64;
    // The axis is in powers of what is left beyond a percentile, so that each nine has its place.
    let nines = |percent: f64| -(1.0 - percent / 100.0).max(0.5 / answers).log10();
    let most = nines(100.0).max(1.0);
    let x = |percent: f64| LEFT + (WIDTH - LEFT - RIGHT) * (nines(percent) / most).min(1.0);
    let (low, high) = (ledger.latency.min().max(100) as f64, ledger.latency.max().max(1000) as f64);
    let scale = LogScale::new(low, high, top);
    title(out, top, "latency by percentile of the answers");
    scale.draw(out);
    for mark in MARKS.into_iter().filter(|&mark| nines(mark) <= most && (1.0 - mark / 100.0) * answers >= 1.0)
    {
        axis(out, x(mark), top, &format!("{mark} %"));
    }
    let steps = 200;
    let points = (0..=steps).map(|i| {
        let percent = 100.0 * (1.0 - 10f64.powf(-most * f64::from(i) / f64::from(steps)));
        (x(percent), scale.y(ledger.latency.value_at_percentile(percent) as f64))
    });
    line(out, points, BLUE);
}

fn draw_seconds(out: &mut String, ledger: &Ledger) {
    let top = 50.0 + PANEL + 60.0;
    let count = ledger.seconds.len();
    title(out, top, "answers a second (blue, from 0), 99th percentile of each second (red, in logarithms)");
    if count == 0 {
        return;
    }
    let x = |second: f64| LEFT + (WIDTH - LEFT - RIGHT) * second / count.max(2) as f64;
    let most = ledger.seconds.iter().map(|second| second.answers).max().unwrap_or(1).max(1) as f64;
    let latencies: Vec<f64> = ledger
        .seconds
        .iter()
        .map(|second| second.latency.value_at_percentile(99.0).max(100) as f64)
        .collect();
    let (low, high) = latencies.iter().fold((f64::MAX, 0f64), |(low, high), &at| (low.min(at), high.max(at)));
    let scale = LogScale::new(low, high.max(1000.0), top);
    scale.draw(out);
    let step = count.div_ceil(10).max(1);
    for second in (0..=count).step_by(step) {
        axis(out, x(second as f64), top, &format!("{second} s"));
    }
    let rate = |answers: u64| top + PANEL * (1.0 - 0.95 * answers as f64 / most);
    let rates =
        ledger.seconds.iter().enumerate().map(|(i, second)| (x(i as f64 + 0.5), rate(second.answers)));
    line(out, rates, BLUE);
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{BLUE}\">{most:.0}</text>",
        WIDTH - RIGHT,
        rate(most as u64) - 4.0
    );
    line(out, latencies.iter().enumerate().map(|(i, &at)| (x(i as f64 + 0.5), scale.y(at))), RED);
}

/// A vertical axis of times in powers of ten.
struct LogScale {
    low: f64,
    high: f64,
    top: f64,
}

impl LogScale {
    /// From a power of ten below `low` to one above `high`, both in nanoseconds.
    fn new(low: f64, high: f64, top: f64) -> LogScale {
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        LogScale { low, high: high.max(low + 1.0), top }
    }

    fn y(&self, nanoseconds: f64) -> f64 {
        let at = (nanoseconds.max(1.0).log10() - self.low) / (self.high - self.low);
        self.top + PANEL * (1.0 - at.clamp(0.0, 1.0))
    }

    fn draw(&self, out: &mut String) {
        for power in self.low as i32..=self.high as i32 {
            let y = self.y(10f64.powi(power));
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{:?}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                Duration::from_nanos(10u64.pow(power.max(0) as u32))
            );
        }
    }
}

fn title(out: &mut String, top: f64, text: &str) {
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{text}</text>", top - 10.0);
}

fn axis(out: &mut String, x: f64, top: f64, text: &str) {
    let bottom = top + PANEL;
    let _ = writeln!(
        out,
        "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#eee\"/><text x=\"{x:.1}\" y=\"{}\" \
         text-anchor=\"middle\">{text}</text>",
        bottom + 16.0
    );
}

fn line(out: &mut String, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if let [point] = &points[..] {
        let (x, y) = point.split_once(',').unwrap_or_default();
        let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>");
    } else {
        let points = points.join(" ");
        let _ = writeln!(
            out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
