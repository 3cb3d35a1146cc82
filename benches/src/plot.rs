//! Draws lines over size as SVG, without a library: both axes logarithmic, each line labelled at its end.

use std::fmt::Write;

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its label.
    pub name: String,
    /// Size in bytes and value, by size.
    pub points: Vec<(usize, f64)>,
}

/// One plot of several.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// What the values are.
    pub unit: &'static str,
    /// Its lines.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 172.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 34.0;
const COLUMNS: usize = 2;
/// Least distance between labels.
const LINE: f64 = 14.0;

/// How a contender is drawn: colour, width, dashes. The same in all panels; colours stay apart for the
/// colour-blind.
fn style(name: &str) -> (&'static str, f64, &'static str) {
    match name {
        "native" => ("#c8102e", 3.0, ""),
        "native AVX2" => ("#c8102e", 1.8, "6 3"),
        "cranelift" => ("#e69f00", 1.8, ""),
        "memcpy" => ("#000000", 1.8, ""),
        _ if name.starts_with("hand AVX-512") => (
            "#0072b2",
            if name.ends_with("NT") { 1.4 } else { 2.4 },
            if name.ends_with("NT") { "2 3" } else { "" },
        ),
        "hand AVX2" => ("#56b4e9", 1.8, ""),
        _ if name.starts_with("rustc") => ("#cc79a7", 1.8, ""),
        "separate" => ("#009e73", 1.8, ""),
        _ if name.starts_with("blocked") => ("#009e73", 1.4, "6 3"),
        _ if name.contains("crc-fast") => ("#777777", 1.4, ""),
        _ => ("#777777", 1.4, "4 3"),
    }
}

/// The panels in two columns, below a heading.
pub fn svg(heading: &str, panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64 + 30.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"13\">{}</text>\n",
        escape(heading)
    );
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * (i % COLUMNS) as f64, HEIGHT * (i / COLUMNS) as f64 + 30.0);
        // Writing to a string does not fail, here and below.
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        draw(&mut out, panel);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel) {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let Some(least) = points().map(|point| point.0).min() else { return };
    let largest = points().map(|point| point.0).max().unwrap_or(least);
    let low = points().map(|point| point.1).fold(f64::MAX, f64::min).max(1e-3) * 0.9;
    let high = points().map(|point| point.1).fold(low * 2.0, f64::max) * 1.1;
    // Lengths of calls are near each other and begin at nought: those stand on a linear axis.
    let is_short = largest <= 256;
    let across = |bytes: usize| {
        if is_short {
            bytes as f64 / largest.max(1) as f64
        } else {
            (bytes as f64 / least.max(1) as f64).log2()
                / (largest as f64 / least.max(1) as f64).log2().max(1.0)
        }
    };
    let x = |bytes: usize| LEFT + (WIDTH - LEFT - RIGHT) * across(bytes);
    let y = |value: f64| {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value.max(low) / low).ln() / (high / low).ln()
    };

    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{}</text>\
         <text x=\"{LEFT}\" y=\"38\" fill=\"#555\">{}</text>",
        escape(&panel.title),
        panel.unit
    );
    for value in ticks(low, high) {
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(value) + 4.0,
            y = y(value),
        );
    }
    let mut sizes: Vec<usize> = points().map(|point| point.0).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut last = f64::MIN;
    for bytes in sizes {
        if x(bytes) - last < 26.0 {
            continue;
        }
        last = x(bytes);
        let _ = writeln!(
            out,
            "<text x=\"{last:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
            HEIGHT - BOTTOM + 16.0,
            size(bytes)
        );
    }
    for series in &panel.series {
        let (colour, width, dashes) = style(&series.name);
        let line: Vec<String> =
            series.points.iter().map(|&(b, v)| format!("{:.1},{:.1}", x(b), y(v))).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\" \
             stroke-linejoin=\"round\" points=\"{}\"/>",
            line.join(" ")
        );
    }
    let ends: Vec<(&str, f64)> = panel
        .series
        .iter()
        .filter_map(|series| Some((series.name.as_str(), y(series.points.last()?.1))))
        .collect();
    for (name, from, to) in spread_labels(&ends) {
        let (colour, width, dashes) = style(name);
        let edge = WIDTH - RIGHT;
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"0.8\" stroke-opacity=\"0.6\" points=\"{edge},{from:.1} {},{to:.1}\"/>\
             <line x1=\"{}\" x2=\"{}\" y1=\"{to:.1}\" y2=\"{to:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"{:.1}\" fill=\"{colour}\"{}>{}</text>",
            edge + 14.0,
            edge + 14.0,
            edge + 28.0,
            edge + 32.0,
            to + 4.0,
            if name == "native" { " font-weight=\"bold\"" } else { "" },
            escape(name)
        );
    }
}

/// Labels in the order of the ends of their lines, far enough apart, within the panel: name, where the line
/// ends, where the label stands.
fn spread_labels<'a>(ends: &[(&'a str, f64)]) -> Vec<(&'a str, f64, f64)> {
    let mut labels: Vec<(&str, f64, f64)> = ends.iter().map(|&(name, y)| (name, y, y)).collect();
    labels.sort_by(|a, b| a.1.total_cmp(&b.1));
    // Down from the top, then up again from the bottom.
    let mut next = TOP;
    for label in &mut labels {
        label.2 = label.2.max(next);
        next = label.2 + LINE;
    }
    let mut next = HEIGHT - BOTTOM;
    for label in labels.iter_mut().rev() {
        label.2 = label.2.min(next);
        next = label.2 - LINE;
    }
    labels
}

/// 1, 2 and 5 times powers of ten, and only 1 where those would be many.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let steps: &[f64] = if (high / low).log10() > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    decades
        .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
        .filter(|tick| (low..=high).contains(tick))
        .collect()
}

/// A size as people write it: `1460`, `4K`, `64M`.
pub fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        _ => bytes.to_string(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!([64, 1460, 4096, 1 << 20, 3 << 20].map(size), ["64", "1460", "4K", "1M", "3M"]);
    }

    #[test]
    fn a_plot_has_a_line_a_series_and_escapes_names() {
        let series = |name: &str| Series { name: name.into(), points: vec![(64, 1.0), (4096, 90.0)] };
        let panel =
            Panel { title: "a < b".into(), unit: "GB/s", series: vec![series("native"), series("memcpy")] };
        let plot = svg("here", &[panel]);
        // Each line, and from its end to its label.
        assert_eq!(plot.matches("<polyline").count(), 4);
        assert!(plot.contains("a &lt; b") && plot.contains(">50</text>") && plot.contains(">4K</text>"));
    }

    #[test]
    fn labels_do_not_overlap_and_stay_inside() {
        let ends: Vec<(&str, f64)> = (0..12).map(|_| ("x", HEIGHT - BOTTOM)).collect();
        let labels = spread_labels(&ends);
        assert!(labels.windows(2).all(|pair| pair[1].2 - pair[0].2 >= LINE - 1e-9));
        assert!(labels.iter().all(|label| label.2 <= HEIGHT - BOTTOM && label.2 >= TOP));
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        assert!(svg("empty", &[]).starts_with("<svg"));
        let empty = Panel { title: "empty".into(), unit: "GB/s", series: Vec::new() };
        assert!(svg("empty", &[empty]).ends_with("</svg>\n"));
    }
}
