//! Draws throughput over size as SVG, without a library: axes, lines, a legend.

use std::fmt::Write;

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Size in bytes and GB/s, by size.
    pub points: Vec<(usize, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Colours that stay apart for the colour-blind (Okabe and Ito), then greys.
const COLOURS: [&str; 11] = [
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#b8a800", "#0072b2", "#d55e00", "#cc79a7", "#666666",
    "#999999", "#333333",
];

/// The panels one below the other, each with its title.
pub fn svg(panels: &[(String, Vec<Series>)]) -> String {
    let height = HEIGHT * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, (title, series)) in panels.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", HEIGHT * i as f64);
        panel(&mut out, title, series);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, title: &str, series: &[Series]) {
    let points = || series.iter().flat_map(|series| &series.points);
    let Some(least) = points().map(|point| point.0).min() else { return };
    let largest = points().map(|point| point.0).max().unwrap_or(least);
    let top = nice(points().map(|point| point.1).fold(1.0, f64::max));
    let span = (largest as f64 / least as f64).log2().max(1.0);
    let x = |bytes: usize| LEFT + (WIDTH - LEFT - RIGHT) * (bytes as f64 / least as f64).log2() / span;
    let y = |gbps: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * gbps / top;

    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>", escape(title));
    for i in 0..=5 {
        let gbps = top * f64::from(i) / 5.0;
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{gbps:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(gbps) + 4.0,
            y = y(gbps),
        );
    }
    let mut sizes: Vec<usize> = points().map(|point| point.0).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for bytes in sizes {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(bytes),
            HEIGHT - BOTTOM + 18.0,
            size(bytes)
        );
    }
    let _ =
        writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">GB/s of payload over transfer size</text>", HEIGHT - 12.0);
    for (i, series) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let line: Vec<String> =
            series.points.iter().map(|&(b, g)| format!("{:.1},{:.1}", x(b), y(g))).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            line.join(" ")
        );
        let legend = TOP + 18.0 * i as f64;
        let _ = writeln!(
            out,
            "<line x1=\"{}\" x2=\"{}\" y1=\"{legend}\" y2=\"{legend}\" stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{}\">{}</text>",
            WIDTH - RIGHT + 12.0,
            WIDTH - RIGHT + 36.0,
            WIDTH - RIGHT + 42.0,
            legend + 4.0,
            escape(&series.name)
        );
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|&top| top >= value).unwrap_or(value)
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
        let plot = svg(&[("a < b".into(), vec![series("x"), series("y")])]);
        assert_eq!(plot.matches("<polyline").count(), 2);
        assert!(plot.contains("a &lt; b") && plot.contains(">100</text>") && plot.contains(">4K</text>"));
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        assert!(svg(&[("empty".into(), Vec::new())]).starts_with("<svg"));
    }
}
