//! The measurements as a plot: lengths on a logarithmic axis, speed on a linear one.

use super::measure::Row;
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// A curve: its name, its colour, and the speed it shows.
type Curve = (&'static str, &'static str, fn(&Row) -> f64);

pub(super) fn plot(title: &str, rows: &[Row]) -> String {
    let series: [Curve; 4] = [
        ("fused", "#0b6e4f", |row| row.fused_gbps),
        ("separate", "#c0392b", |row| row.separate_gbps),
        ("blocked", "#d68910", |row| row.blocked_gbps),
        ("memcpy", "#7f8c8d", |row| row.memcpy_gbps),
    ];
    let log = |row: &Row| (row.bytes.max(1) as f64).log2();
    let low = rows.iter().map(log).fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(log).fold(low + 1.0, f64::max);
    let most = rows.iter().flat_map(|row| series.map(|(_, _, speed)| speed(row))).fold(0.0, f64::max);
    let step = step_for(most);
    let top = (most / step).ceil().max(1.0) * step;
    let x = |row: &Row| LEFT + (log(row) - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let y = |gbps: f64| HEIGHT - BOTTOM - gbps / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{}, GB/s</text>\n",
        escape(title)
    );
    let mut gbps = 0.0;
    while gbps <= top + step / 2.0 {
        let (at, end) = (y(gbps), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{gbps}</text>",
            LEFT - 8.0,
            at + 4.0
        );
        gbps += step;
    }
    for row in rows {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(row),
            HEIGHT - BOTTOM + 20.0,
            bytes(row.bytes)
        );
    }
    for (index, (name, colour, speed)) in series.iter().enumerate() {
        let points: Vec<String> =
            rows.iter().map(|row| format!("{:.1},{:.1}", x(row), y(speed(row)))).collect();
        let label = TOP + 18.0 * index as f64;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{label:.1}\" fill=\"{colour}\">{name}</text>",
            points.join(" "),
            WIDTH - RIGHT + 12.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round step that makes four to ten lines.
fn step_for(most: f64) -> f64 {
    let power = 10f64.powf(most.max(0.01).log10().floor());
    [0.1, 0.2, 0.5, 1.0]
        .into_iter()
        .map(|part| part * power)
        .find(|step| most / step <= 10.0)
        .unwrap_or(power)
}

fn bytes(count: usize) -> String {
    match count {
        n if n >= 1 << 30 && n % (1 << 30) == 0 => format!("{}G", n >> 30),
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{}M", n >> 20),
        n if n >= 1 << 10 && n % (1 << 10) == 0 => format!("{}K", n >> 10),
        n => n.to_string(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
