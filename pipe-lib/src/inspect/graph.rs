//! The dataflow of a composition as boxes and what is written in them; [`super::dot`] and [`super::svg`] draw
//! it.

use crate::analyse::analyse;
use crate::compose::{Composition, Stage};
use crate::ir::{Export, Frame, Layout, Pipe};
use crate::options::CompileOptions;
use crate::plan::Plan;
use crate::select::{self, Made, PassPlan};

/// Characters of a line beyond which it is cut; the whole is in the box's tooltip.
const LINE: usize = 64;

/// A composition from its source to its sink.
pub(super) struct Graph {
    pub(super) source: Vec<String>,
    /// In stream order.
    pub(super) boxes: Vec<StageBox>,
    pub(super) sink: Vec<String>,
    /// What each pass is, in the order in which they run.
    pub(super) passes: Vec<String>,
}

/// A stage.
pub(super) struct StageBox {
    /// The instance, and the pipe if that has another name.
    pub(super) title: String,
    /// Gauges, tail and window; then a line for each state.
    pub(super) lines: Vec<String>,
    /// `name: type`.
    pub(super) exports: Vec<String>,
    /// Whether the stream passes unchanged: then it is drawn beside the stream.
    pub(super) tap: bool,
    /// Index into [`Graph::passes`].
    pub(super) pass: usize,
    /// Documentation, and classes without cuts.
    pub(super) tooltip: String,
}

impl Graph {
    pub(super) fn new(composition: &Composition, options: &CompileOptions) -> Graph {
        let (plan, backends) = match select::select(composition, options) {
            Ok((plan, code)) => (plan, code.iter().map(from).collect()),
            Err(_) => (Plan::fused(composition), Vec::new()),
        };
        let passes = plan.passes.iter().enumerate().map(|(index, pass)| {
            let by = backends.get(index).map_or(String::new(), |by: &String| format!(", {by}"));
            let bytes = if pass.gauge == 1 { "1 byte" } else { &format!("{} bytes", pass.gauge) };
            format!("pass {}: loop word of {bytes}{by}", index + 1)
        });
        let pass_of = |stage: usize| plan.passes.iter().position(|pass| pass.stages.contains(&stage));
        let boxes = composition.stages.iter().enumerate();
        Graph {
            source: end("stream in", composition.source.as_deref(), composition.source_frame.as_deref()),
            boxes: boxes.map(|(at, stage)| StageBox::new(stage, pass_of(at).unwrap_or(0))).collect(),
            sink: end("stream out", composition.sink.as_deref(), composition.sink_frame.as_deref()),
            passes: passes.collect(),
        }
    }
}

impl StageBox {
    fn new(stage: &Stage, pass: usize) -> StageBox {
        let (pipe, facts) = (&stage.pipe, analyse(&stage.pipe));
        let mut title = stage.name.clone();
        if stage.name != pipe.name {
            title += &format!(" : {}", pipe.name);
        }
        let mut first = pipe.input.to_string();
        if pipe.output != pipe.input {
            first += &format!(" -> {}", pipe.output);
        }
        if pipe.word_bytes() > 1 {
            first += &format!(", tail {}", pipe.tail.name());
        }
        if let Some(window) = stage.window {
            first += &format!(", per {window}");
        }
        let states = pipe.states.iter().zip(&facts.states).filter(|_| pipe.digest.is_none());
        let states = states.map(|(state, facts)| format!("{}: {} - {}", state.name, state.ty, facts.class));
        let states: Vec<String> = states.collect();
        let mut tooltip = pipe.doc.clone();
        for line in &states {
            tooltip += &format!("\n{line}");
        }
        let exports = pipe.exports.iter();
        StageBox {
            title,
            lines: std::iter::once(first).chain(states).map(cut).collect(),
            exports: exports.map(|e| format!("{}: {}", e.name, kind_of(pipe, e))).collect(),
            tap: facts.nomod(),
            pass,
            tooltip: tooltip.trim().to_string(),
        }
    }
}

/// Whose code a pass runs.
fn from(made: &Made) -> String {
    match made.plan {
        PassPlan::Digest(_) => "another crate".to_owned(),
        _ => made.backend.to_string(),
    }
}

/// A type, or the bytes of a digest.
fn kind_of(pipe: &Pipe, export: &Export) -> String {
    match pipe.digest {
        Some(kind) => format!("{} bytes", kind.bytes()),
        None => pipe.finish.ty(export.value).to_string(),
    }
}

fn end(what: &str, layout: Option<&Layout>, frame: Option<&Frame>) -> Vec<String> {
    let mut lines = vec![what.to_string()];
    lines.extend(layout.map(|layout| cut(layout.to_string())));
    lines.extend(frame.map(|frame| cut(frame.to_string())));
    lines
}

fn cut(mut line: String) -> String {
    if let Some((at, _)) = line.char_indices().nth(LINE) {
        line.truncate(at);
        line += "..";
    }
    line
}
