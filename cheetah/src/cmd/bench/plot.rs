//! The same as a picture: what switching each feature off costs, a panel a world; below, the stages.

use std::fmt::Write;

use super::figures::Figures;
use super::load::Load;
use super::plan::{Plan, World};
use super::table::column;

const PANEL: f64 = 330.0;
const NAMES: f64 = 150.0;
const ROW: f64 = 26.0;
const HEAD: f64 = 46.0;
const TOP: f64 = 56.0;
const COLUMNS: usize = 3;
/// Ratios beyond these are drawn as these, and written out.
const LEAST: f64 = 0.7;
const MOST: f64 = 4.0;
const TICKS: [f64; 15] = [1.0, 0.1, 0.5, 2.0, 0.2, 0.05, 0.01, 0.02, 1.5, 3.0, 0.3, 0.7, 1.2, 0.8, 0.9];
/// Distinct in lightness as well as in hue.
const COLOURS: [&str; 3] = ["#22577a", "#e07a5f", "#7bc950"];

/// Worlds in rows of three: ratios with their ranges, stages in processor time below.
pub(super) fn svg(heading: &str, plan: &Plan, loads: &[Load], figures: &Figures) -> String {
    let most = |of: fn(&World) -> usize| plan.worlds.iter().map(of).max().unwrap_or(0) as f64;
    let (switches, stages) = (most(|world| world.switches.len()), most(|world| world.stages.len()));
    let panel = |rows: f64| if rows > 0.0 { HEAD + ROW * rows + 26.0 } else { 0.0 };
    let (upper, lower) = (panel(switches), panel(stages));
    let columns = plan.worlds.len().clamp(1, COLUMNS);
    let rows = plan.worlds.len().div_ceil(COLUMNS).max(1) as f64;
    let width = (PANEL + NAMES) * columns as f64 + 20.0;
    let height = TOP + (upper + lower) * rows;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"13\">{}</text>\n",
        escape(heading)
    );
    for (i, load) in loads.iter().enumerate() {
        let x = 12.0 + 240.0 * i as f64;
        // Writing to a string does not fail, here and below.
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"41\">{}</text>",
            COLOURS[i % COLOURS.len()],
            x + 18.0,
            escape(load.name)
        );
    }
    for (i, world) in plan.worlds.iter().enumerate() {
        let x = (PANEL + NAMES) * (i % COLUMNS) as f64;
        let y = TOP + (upper + lower) * (i / COLUMNS) as f64;
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        draw_switches(&mut out, world, loads, figures);
        let _ = writeln!(out, "</g>\n<g transform=\"translate({x} {})\">", y + upper);
        draw_stages(&mut out, world, loads, figures);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw_switches(out: &mut String, world: &World, loads: &[Load], figures: &Figures) {
    let ratios: Vec<Vec<_>> = world
        .switches
        .iter()
        .map(|switch| match &switch.comparison {
            Ok(pair) => {
                (0..loads.len()).map(|load| figures.cpu_ratio(pair.without, pair.with, load)).collect()
            }
            Err(_) => Vec::new(),
        })
        .collect();
    let largest = ratios.iter().flatten().flatten().map(|ratio| ratio.median).fold(1.5, f64::max);
    let (low, high) = (LEAST, (largest * 1.1).min(MOST));
    let x = |value: f64| NAMES + (PANEL - 30.0) * (value.clamp(low, high) / low).ln() / (high / low).ln();
    if ratios.is_empty() {
        return;
    }
    title(out, &format!("{}: processor time without / with", column(world)));
    let bottom = HEAD + ROW * world.switches.len() as f64;
    for tick in ticks(low, high, x) {
        axis(out, x(tick), bottom, tick, if tick == 1.0 { "#888" } else { "#e4e4e4" });
    }
    for (i, (switch, ratios)) in world.switches.iter().zip(&ratios).enumerate() {
        let y = HEAD + ROW * i as f64;
        name(out, switch.varied.name(), y);
        if ratios.is_empty() {
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" fill=\"#888\">not in this world</text>",
                NAMES + 6.0,
                y + 15.0
            );
        }
        let thick = (ROW - 6.0) / loads.len().max(1) as f64;
        for (load, ratio) in ratios.iter().enumerate() {
            let Some(ratio) = ratio else { continue };
            let (from, to) = (x(ratio.median.min(1.0)), x(ratio.median.max(1.0)));
            let (top, colour) = (y + 3.0 + thick * load as f64, COLOURS[load % COLOURS.len()]);
            let middle = top + thick / 2.0;
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                 <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#333\" stroke-width=\"0.8\"/>",
                (to - from).max(0.8),
                thick - 1.0,
                x(ratio.least),
                x(ratio.largest),
            );
            if ratio.median > high {
                let _ = writeln!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{:.1}</text>",
                    x(high) + 3.0,
                    middle + 3.0,
                    ratio.median
                );
            }
        }
    }
}

/// Each stage's processor time a request relative to the first's, on a logarithmic axis.
fn draw_stages(out: &mut String, world: &World, loads: &[Load], figures: &Figures) {
    let Some(first) = world.stages.first().map(|stage| stage.server) else { return };
    let share = |server, load| figures.cpu_ratio(server, first, load).map(|ratio| ratio.median);
    let all = || {
        world
            .stages
            .iter()
            .flat_map(|stage| (0..loads.len()).filter_map(move |load| share(stage.server, load)))
    };
    let low = all().fold(0.5, f64::min) * 0.9;
    let high = all().fold(1.0, f64::max) * 1.1;
    let x = |value: f64| NAMES + (PANEL - 30.0) * (value.clamp(low, high) / low).ln() / (high / low).ln();
    title(out, &format!("{}: processor time of stages / of the first", column(world)));
    let bottom = HEAD + ROW * world.stages.len() as f64;
    for tick in ticks(low, high, x) {
        axis(out, x(tick), bottom, tick, "#e4e4e4");
    }
    for (i, stage) in world.stages.iter().enumerate() {
        name(
            out,
            &if i == 0 { stage.adds.clone() } else { format!("+ {}", stage.adds) },
            HEAD + ROW * i as f64,
        );
    }
    for load in 0..loads.len() {
        let points: Vec<(f64, f64)> = world
            .stages
            .iter()
            .enumerate()
            .filter_map(|(i, stage)| Some((x(share(stage.server, load)?), HEAD + ROW * (i as f64 + 0.5))))
            .collect();
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let colour = COLOURS[load % COLOURS.len()];
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            line.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

fn title(out: &mut String, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"12\" y=\"18\" font-size=\"12\" font-weight=\"bold\">{}</text>",
        escape(text)
    );
}

fn axis(out: &mut String, x: f64, bottom: f64, tick: f64, colour: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{HEAD}\" y2=\"{bottom}\" stroke=\"{colour}\"/>\
         <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{tick}</text>",
        HEAD - 6.0
    );
}

fn name(out: &mut String, text: &str, y: f64) {
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        NAMES - 8.0,
        y + ROW / 2.0 + 4.0,
        escape(text)
    );
}

/// Those between `low` and `high`, the most important first, and none whose number would stand on another's.
fn ticks(low: f64, high: f64, x: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut chosen: Vec<f64> = Vec::new();
    for tick in TICKS.into_iter().filter(|tick| (low..=high).contains(tick)) {
        if chosen.iter().all(|&other| (x(tick) - x(other)).abs() >= 24.0) {
            chosen.push(tick);
        }
    }
    chosen
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_their_distance() {
        let x = |value: f64| 300.0 * (value / 0.02).ln() / (2.0f64 / 0.02).ln();
        let mut places: Vec<f64> = ticks(0.02, 2.0, x).into_iter().map(x).collect();
        places.sort_by(f64::total_cmp);
        assert!(places.len() > 4 && places.windows(2).all(|pair| pair[1] - pair[0] >= 24.0), "{places:?}");
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        let plot = svg("a < b", &Plan::default(), &[], &Figures::new(0, 0));
        assert!(plot.contains("a &lt; b") && plot.ends_with("</svg>\n"));
    }
}
