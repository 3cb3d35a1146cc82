//! The dataflow as a picture, drawn without a layout engine: the stream runs down at the left, through the
//! stages that change it; taps stand beside it, exports at the right. A stripe at a box's edge has the colour
//! of its pass.

use super::graph::{Graph, StageBox};
use crate::compose::Composition;
use crate::options::CompileOptions;
use std::fmt::Write as _;

const CHARACTER: f64 = 7.25;
const LINE: f64 = 16.0;
const PADDING: f64 = 10.0;
/// Between one row and the next.
const GAP: f64 = 22.0;
const MARGIN: f64 = 24.0;
/// Of the pass's colour at the left edge of a box.
const STRIPE: f64 = 6.0;
const COLOURS: [&str; 6] = ["#2f6db5", "#c2571a", "#2f8f4e", "#8a4fbf", "#b8902a", "#3a8f94"];

/// The dataflow of a composition as an SVG document of its own.
pub fn svg(composition: &Composition, options: &CompileOptions) -> String {
    let graph = Graph::new(composition, options);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = Picture::new(&graph).write(&graph, &mut text);
    text
}

/// Where the columns are.
struct Picture {
    /// The stream's line.
    stream: f64,
    /// Left edge of stages that change the stream, and their width.
    change: (f64, f64),
    tap: (f64, f64),
    exports: (f64, f64),
}

impl Picture {
    fn new(graph: &Graph) -> Picture {
        let width = |boxes: &mut dyn Iterator<Item = &StageBox>| {
            let lines = boxes.flat_map(|stage| stage.lines.iter().chain([&stage.title]));
            box_width(lines.map(String::as_str))
        };
        let ends = box_width(graph.source.iter().chain(&graph.sink).map(String::as_str));
        let change = width(&mut graph.boxes.iter().filter(|stage| !stage.tap)).max(ends);
        let tap = width(&mut graph.boxes.iter().filter(|stage| stage.tap));
        let exports = box_width(graph.boxes.iter().flat_map(|stage| &stage.exports).map(String::as_str));
        let taps_at = MARGIN + change + 2.0 * GAP;
        let exports_at = if tap > 0.0 { taps_at + tap + 2.0 * GAP } else { taps_at };
        Picture {
            stream: MARGIN + change / 2.0,
            change: (MARGIN, change),
            tap: (taps_at, tap),
            exports: (exports_at, exports),
        }
    }

    fn write(&self, graph: &Graph, f: &mut String) -> std::fmt::Result {
        let mut body = String::new();
        let mut y = MARGIN;
        let mut from = y + height(graph.source.len());
        self.end(&graph.source, y, &mut body)?;
        y = from + GAP;
        for stage in &graph.boxes {
            let (x, width) = if stage.tap { self.tap } else { self.change };
            let tall = height(1 + stage.lines.len()).max(height(stage.exports.len()));
            let middle = y + tall / 2.0;
            if stage.tap {
                writeln!(body, "<circle cx=\"{}\" cy=\"{middle}\" r=\"3.5\" class=\"dot\"/>", self.stream)?;
                let start = self.stream;
                writeln!(body, "<path class=\"tap\" d=\"M{start} {middle}H{}\"/>", x - 2.0)?;
            } else {
                writeln!(body, "<path class=\"flow\" d=\"M{} {from}V{}\"/>", self.stream, y - 2.0)?;
                from = y + tall;
            }
            stage_box(stage, (x, y, width, tall), &mut body)?;
            if !stage.exports.is_empty() {
                let (at, wide) = self.exports;
                let (high, start) = (height(stage.exports.len()), x + width);
                writeln!(body, "<path class=\"flow\" d=\"M{start} {middle}H{}\"/>", at - 2.0)?;
                let top = middle - high / 2.0;
                frame("export", (at, top, wide, high), 10.0, &mut body)?;
                lines(&stage.exports, at, top, "", &mut body)?;
            }
            y += tall + GAP;
        }
        writeln!(body, "<path class=\"flow\" d=\"M{} {from}V{}\"/>", self.stream, y - 2.0)?;
        self.end(&graph.sink, y, &mut body)?;
        y += height(graph.sink.len()) + GAP;
        for (index, pass) in graph.passes.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let top = y + 3.0;
            writeln!(
                body,
                "<rect x=\"{MARGIN}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
            )?;
            lines(std::slice::from_ref(pass), MARGIN + 8.0, y - PADDING + 1.0, "", &mut body)?;
            y += LINE + 4.0;
        }
        let legend = graph.passes.iter().map(|pass| pass.len()).max().unwrap_or(0) as f64 * CHARACTER;
        let right = (self.exports.0 + self.exports.1).max(MARGIN + 20.0 + legend) + MARGIN;
        let bottom = y + MARGIN / 2.0;
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{right}\" height=\"{bottom}\" viewBox=\"0 0 {right} {bottom}\">"
        )?;
        f.push_str(STYLE);
        writeln!(f, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>")?;
        f.push_str(&body);
        writeln!(f, "</svg>")
    }

    /// The stream's start or end.
    fn end(&self, text: &[String], y: f64, f: &mut String) -> std::fmt::Result {
        let (x, width) = self.change;
        frame("end", (x, y, width, height(text.len())), height(text.len()) / 2.0, f)?;
        lines(text, x + PADDING, y, "", f)
    }
}

const STYLE: &str = "<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"6\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>
<style>
text { font: 12px 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #222; white-space: pre }
.title { font-weight: bold }
.stage { fill: #fbfbf8; stroke: #555 }
.end { fill: #e8eef5; stroke: #555 }
.export { fill: #fff8e0; stroke: #a08a40 }
.flow { fill: none; stroke: #555; stroke-width: 1.5; marker-end: url(#head) }
.tap { fill: none; stroke: #555; stroke-width: 1.2; stroke-dasharray: 4 3; marker-end: url(#head) }
.dot { fill: #555 }
</style>
";

fn stage_box(stage: &StageBox, place: (f64, f64, f64, f64), f: &mut String) -> std::fmt::Result {
    let (x, y, _, tall) = place;
    let colour = COLOURS[stage.pass % COLOURS.len()];
    write!(f, "<g>")?;
    if !stage.tooltip.is_empty() {
        write!(f, "<title>{}</title>", escape(&stage.tooltip))?;
    }
    writeln!(f)?;
    frame("stage", place, 0.0, f)?;
    writeln!(f, "<rect x=\"{x}\" y=\"{y}\" width=\"{STRIPE}\" height=\"{tall}\" fill=\"{colour}\"/>")?;
    lines(std::slice::from_ref(&stage.title), x + STRIPE, y, " class=\"title\"", f)?;
    lines(&stage.lines, x + STRIPE, y + LINE, "", f)?;
    writeln!(f, "</g>")
}

fn frame(class: &str, (x, y, w, h): (f64, f64, f64, f64), round: f64, f: &mut String) -> std::fmt::Result {
    writeln!(f, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{round}\"/>")
}

fn lines(text: &[String], x: f64, y: f64, class: &str, f: &mut String) -> std::fmt::Result {
    for (at, line) in text.iter().enumerate() {
        let baseline = y + PADDING + LINE * at as f64 + 11.0;
        writeln!(f, "<text x=\"{}\" y=\"{baseline}\"{class}>{}</text>", x + PADDING, escape(line))?;
    }
    Ok(())
}

fn height(lines: usize) -> f64 {
    if lines == 0 { 0.0 } else { lines as f64 * LINE + 2.0 * PADDING - 2.0 }
}

fn box_width<'a>(lines: impl Iterator<Item = &'a str>) -> f64 {
    let most = lines.map(|line| line.chars().count()).max();
    most.map_or(0.0, |most| (most as f64 * CHARACTER + 2.0 * PADDING + STRIPE + 4.0).ceil())
}

fn escape(text: &str) -> String {
    // XML has no other control characters, escaped or not.
    let text = text.replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), " ");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
