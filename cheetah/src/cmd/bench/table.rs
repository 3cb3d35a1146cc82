//! What was measured, in words: a table a world and load, and at the end what each switch is worth
//! everywhere.

use std::fmt::Write;

use super::bounds::{self, LoopCost};
use super::figures::{Figure, Figures, Spread};
use super::load::Load;
use super::plan::{Comparison, Index, Kind, Plan, World};

/// Of smaller answers content is not what costs.
const MIN_BOUND_BYTES: usize = 10_000;

/// Width of names.
const NAMES: usize = 22;

/// All tables. Nothing is left out: a switch that does nothing in a world has its reason there.
pub(super) fn all(plan: &Plan, loads: &[Load], figures: &Figures, bounds: &[LoopCost]) -> String {
    let mut out = String::new();
    for world in &plan.worlds {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(out, "== {}, {}", world.net.name(), world.setting);
        for (i, load) in loads.iter().enumerate() {
            let _ = writeln!(out, "\n{}, {} clients", load.name, load.clients);
            of_world(&mut out, world, load, i, figures);
            beside_bounds(&mut out, world, load, i, figures, bounds);
        }
        reasons(&mut out, world);
        out.push('\n');
    }
    summary(&mut out, plan, loads, figures);
    out
}

fn of_world(out: &mut String, world: &World, load: &Load, i: usize, figures: &Figures) {
    let cpu = if load.is_bulk() { "CPU s/GB" } else { "CPU us/req" };
    let heading = |out: &mut String, name: &str, ratio: &str, first: &str| {
        let _ = writeln!(
            out,
            "{name:<NAMES$} {cpu:>10} {ratio:>18} {first:>9} {:>9} {:>10} {:>9} {:>8} {:>10}",
            "both ends", "frames/req", "calls/req", "touched", "req/s"
        );
    };
    if let Some(first) = world.stages.first() {
        heading(out, "stage", "/ the one before", "/ first");
        let mut before = None;
        for stage in &world.stages {
            let ratio = before.and_then(|before| figures.cpu_ratio(stage.server, before, i));
            let of_first = figures.cpu_ratio(stage.server, first.server, i);
            row(out, &stage.adds, stage.server, [ratio, of_first], load, i, figures);
            before = Some(stage.server);
        }
        out.push('\n');
    }
    let mut everything = None;
    for switch in &world.switches {
        let Ok(Comparison { with, without, beside }) = switch.comparison else { continue };
        // Those with the same base stand below it.
        if everything != Some(with) {
            let name =
                if beside.is_empty() { "everything".to_owned() } else { format!("no {}", names(beside)) };
            if everything.is_none() {
                heading(out, "switched off", "/ with it", "");
            }
            row(out, &shorten(&name), with, [None; 2], load, i, figures);
            everything = Some(with);
        }
        let ratio = figures.cpu_ratio(without, with, i);
        row(out, &format!("- {}", switch.varied), without, [ratio, None], load, i, figures);
    }
}

fn row(
    out: &mut String,
    name: &str,
    server: Index,
    [ratio, of_first]: [Option<Spread>; 2],
    load: &Load,
    i: usize,
    figures: &Figures,
) {
    let of = |quantity: fn(&Figure) -> Option<f64>| figures.spread(server, i, quantity);
    let (cpu, both) = if load.is_bulk() {
        (of(|figure| Some(figure.s_a_gb())), of(|figure| Some(figure.both_s_a_gb())))
    } else {
        (of(|figure| Some(figure.us_a_request())), of(|figure| Some(figure.both_us_a_request())))
    };
    let decimals = if load.is_bulk() { 3 } else { 2 };
    let _ = writeln!(
        out,
        "{name:<NAMES$} {:>10} {:>18} {:>9} {:>9} {:>10} {:>9} {:>8} {:>10}",
        number(cpu, decimals),
        ratio.map_or_else(String::new, shown),
        of_first.map_or_else(String::new, |ratio| format!("{:.3}", ratio.median)),
        number(both, decimals),
        number(of(|figure| Some(figure.frames / figure.requests)), 1),
        number(of(|figure| Some(figure.calls? / figure.requests)), 1),
        number(of(|figure| figure.touched), 2),
        number(of(|figure| Some(figure.rate())), 0),
    );
}

/// What loops cost alone for what the load asks for, and which share of the server's time that is.
fn beside_bounds(
    out: &mut String,
    world: &World,
    load: &Load,
    i: usize,
    figures: &Figures,
    bounds: &[LoopCost],
) {
    let Some(Ok(pair)) = world.switches.iter().map(|switch| &switch.comparison).find(|pair| pair.is_ok())
    else {
        return;
    };
    let (unit, scale, of_server) = if load.is_bulk() {
        ("s/GB", 1.0, figures.spread(pair.with, i, |figure| Some(figure.s_a_gb())))
    } else {
        (
            "us/req",
            load.size as f64 * 1e-3,
            figures.spread(pair.with, i, |figure| Some(figure.us_a_request())),
        )
    };
    let Some(of_server) = of_server.filter(|_| load.size >= MIN_BOUND_BYTES && !bounds.is_empty()) else {
        return;
    };
    let _ = writeln!(out, "\n{:<36} {unit:>10} {:>12}", "loops alone, here", "/ server's");
    for bound in bounds.iter().chain(&bounds::savings(bounds)) {
        let cost = bound.s_a_gb * scale;
        let _ = writeln!(out, "{:<36} {cost:>10.3} {:>12.3}", bound.name, cost / of_server.median);
    }
}

/// Switches that do nothing in this world, and why.
fn reasons(out: &mut String, world: &World) {
    let mut first = true;
    for switch in &world.switches {
        if let Err(why) = &switch.comparison {
            if std::mem::take(&mut first) {
                let _ = writeln!(out, "\nnot measured here:");
            }
            let _ = writeln!(out, "- {}: {why}", switch.varied);
        }
    }
}

/// What switching each feature off costs in processor time, everywhere.
fn summary(out: &mut String, plan: &Plan, loads: &[Load], figures: &Figures) {
    let Some(world) = plan.worlds.first().filter(|world| !world.switches.is_empty()) else { return };
    for (i, load) in loads.iter().enumerate() {
        let _ = writeln!(out, "== processor time without a feature / with it: {}", load.name);
        let _ = write!(out, "{:<NAMES$}", "");
        for world in &plan.worlds {
            let _ = write!(out, " {:>20}", column(world));
        }
        out.push('\n');
        for (at, switch) in world.switches.iter().enumerate() {
            let _ = write!(out, "{:<NAMES$}", switch.varied);
            for world in &plan.worlds {
                let ratio = world.switches[at].comparison.as_ref().ok();
                let ratio = ratio.and_then(|pair| figures.cpu_ratio(pair.without, pair.with, i));
                let _ = write!(out, " {:>20}", ratio.map_or_else(|| "-".to_owned(), shown));
            }
            out.push('\n');
        }
        out.push('\n');
    }
}

/// A world's short name.
pub(super) fn column(world: &World) -> String {
    format!(
        "{} {}{}",
        world.net.name(),
        world.setting.mtu,
        if world.setting.offload { "+offload" } else { "" }
    )
}

/// What a server is, in a few words.
pub(super) fn describe(kind: &Kind) -> String {
    let what = match kind {
        Kind::Processes => "a process a request",
        Kind::Folder(_) => "serve --store folder",
        Kind::Image(_) => "serve",
        Kind::Unverified(_) => "serve unverified",
        Kind::Shared(_) => "serve --program",
        Kind::FastCgi(_) => "serve --fastcgi",
    };
    format!("{what}{}", without_list(kind.without().unwrap_or_default()))
}

fn without_list(features: &[crate::cmd::features::Feature]) -> String {
    if features.is_empty() { String::new() } else { format!(" --without {}", names(features)) }
}

fn names(features: &[crate::cmd::features::Feature]) -> String {
    features.iter().map(|feature| feature.name()).collect::<Vec<_>>().join(",")
}

fn shorten(name: &str) -> String {
    name.replace("stored-sums,cached-sums", "known sums")
}

/// A ratio: its median, and between which two it lay.
pub(super) fn shown(ratio: Spread) -> String {
    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.least, ratio.largest)
}

fn number(value: Option<Spread>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.decimals$}", value.median))
}
