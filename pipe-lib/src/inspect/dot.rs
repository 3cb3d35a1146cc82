//! The dataflow in Graphviz's language.

use super::graph::Graph;
use crate::compose::Composition;
use crate::options::CompileOptions;
use std::fmt::Write as _;

/// The dataflow of a composition as a `digraph`: the stream from top to bottom, taps beside it, exports at
/// the right.
pub fn dot(composition: &Composition, options: &CompileOptions) -> String {
    let graph = Graph::new(composition, options);
    let mut text = String::from("digraph pipeline {\n");
    // Writing to a string does not fail.
    let _ = write(&graph, &mut text);
    text + "}\n"
}

fn write(graph: &Graph, f: &mut String) -> std::fmt::Result {
    writeln!(f, "  node [shape=box, fontname=\"monospace\", fontsize=10]")?;
    writeln!(f, "  edge [fontname=\"monospace\", fontsize=9]")?;
    if !graph.passes.is_empty() {
        writeln!(f, "  label=\"{}\"; labelloc=b; labeljust=l; fontname=\"monospace\"", label(&graph.passes))?;
    }
    writeln!(f, "  source [shape=cds, label=\"{}\"]", label(&graph.source))?;
    let mut stream = "source".to_string();
    for (at, stage) in graph.boxes.iter().enumerate() {
        let mut lines = vec![stage.title.clone()];
        lines.extend(stage.lines.iter().cloned());
        lines.push(format!("pass {}", stage.pass + 1));
        let style = if stage.tap { ", style=rounded" } else { "" };
        writeln!(f, "  s{at} [label=\"{}\", tooltip=\"{}\"{style}]", label(&lines), escape(&stage.tooltip))?;
        if stage.tap {
            writeln!(f, "  {stream} -> s{at} [style=dashed]")?;
        } else {
            writeln!(f, "  {stream} -> s{at}")?;
            stream = format!("s{at}");
        }
        if !stage.exports.is_empty() {
            writeln!(f, "  e{at} [shape=note, label=\"{}\"]", label(&stage.exports))?;
            writeln!(f, "  s{at} -> e{at} [arrowhead=open]")?;
        }
    }
    writeln!(f, "  sink [shape=cds, label=\"{}\"]", label(&graph.sink))?;
    writeln!(f, "  {stream} -> sink")
}

/// Lines that end at the left.
fn label(lines: &[String]) -> String {
    lines.iter().map(|line| escape(line) + "\\l").collect()
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
