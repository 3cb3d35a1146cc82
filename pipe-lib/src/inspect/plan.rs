//! The plan as text, for people who have not read the code (`pipec inspect --emit plan`).

use crate::analyse::{PipeFacts, analyse};
use crate::backend::interp;
use crate::compose::{Composition, Stage};
use crate::drive::{BLOCK, DIGEST_BLOCK};
use crate::ir::{Layout, Pipe, State, Stripe, Tail};
use crate::outline::{bytes, heading};
use crate::plan::rewrite::StatePart;
use crate::plan::{Pass, Plan};
use crate::select::{Made, PassPlan};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

impl Plan {
    /// A description of the passes of a plan of `composition`, without what their loops do, which is for a
    /// backend to decide: see `inspect::plan`.
    #[cfg(test)]
    pub(crate) fn describe(&self, composition: &Composition) -> String {
        self.text(composition, None)
    }

    /// The same with the loops of the code of each pass.
    pub(crate) fn describe_code(&self, composition: &Composition, made: &[Made]) -> String {
        self.text(composition, Some(made))
    }

    fn text(&self, composition: &Composition, made: Option<&[Made]>) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(composition, made, &mut text);
        text
    }

    fn write(&self, composition: &Composition, made: Option<&[Made]>, f: &mut String) -> fmt::Result {
        if let Some(layout) = &composition.source {
            writeln!(f, "source  bytes are gathered from layout `{}`: {}", layout.name, rules(layout))?;
        }
        if let Some(frame) = &composition.source_frame {
            writeln!(f, "source  fields are taken out of the data, and compared: {frame}")?;
        }
        match &self.passes[..] {
            [] => writeln!(f, "a plain copy: no stages")?,
            [_] => writeln!(f, "one pass over the data: all stages in one loop")?,
            many => {
                let is_digest =
                    |pass: &Pass| pass.stages(composition).any(|stage| stage.pipe.digest.is_some());
                let digests = many.iter().filter(|pass| is_digest(pass)).count();
                let block = if digests == 0 { BLOCK } else { DIGEST_BLOCK };
                let count = many.len();
                writeln!(
                    f,
                    "{count} passes over blocks of {block} bytes, which stay in the first-level cache;"
                )?;
                let first = many.iter().position(|pass| !is_digest(pass));
                match first {
                    Some(0) => writeln!(f, "the first one copies, the others work in place")?,
                    Some(first) => {
                        let copies = first + 1;
                        writeln!(f, "pass {copies} copies, those before it look, the others work in place")?;
                    }
                    None => writeln!(f, "they look, and a plain copy is made on the way")?,
                }
            }
        }
        let mut known = Known::new();
        for (index, pass) in self.passes.iter().enumerate() {
            writeln!(f)?;
            pass.write(index, composition, &mut known, f)?;
            if let Some(made) = made.and_then(|made| made.get(index)) {
                pass.write_code(composition, made, f)?;
            }
        }
        if let Some(layout) = &composition.sink {
            writeln!(f, "\nsink  bytes are spread by layout `{}`: {}", layout.name, rules(layout))?;
        }
        if let Some(frame) = &composition.sink_frame {
            writeln!(f, "\nsink  fields are put between the data: {frame}")?;
        }
        if composition.frames().next().is_some() {
            writeln!(f, "between fields, the passes run over the data of a window at a time")?;
        }
        Ok(())
    }
}

/// What a layout demands, as a phrase.
fn rules(layout: &Layout) -> String {
    let mut rules = Vec::new();
    if let Some(Stripe { data, gap }) = layout.stripe {
        rules.push(format!("runs of {data} bytes, holes of {gap}"));
    }
    if let Some(store) = layout.store {
        rules.push(format!("accesses of {store} bytes"));
    }
    if layout.fixed {
        rules.push("all to one address".to_owned());
    }
    if layout.pad > 0 {
        rules.push(format!("zeros up to {} bytes", layout.pad));
    }
    if rules.is_empty() { "contiguous memory".to_owned() } else { rules.join(", ") }
}

impl Pass {
    fn write(
        &self,
        index: usize,
        composition: &Composition,
        known: &mut Known,
        f: &mut String,
    ) -> fmt::Result {
        let names: Vec<&str> = self.stages(composition).map(|stage| stage.name.as_str()).collect();
        writeln!(f, "pass {}: {}", index + 1, names.join(" | "))?;
        heading(f, "loop word", bytes(self.gauge))?;
        self.stages(composition).try_for_each(|stage| write_stage(stage, known, f))
    }

    /// What the rewrites did and what the loop does.
    fn write_code(&self, composition: &Composition, made: &Made, f: &mut String) -> fmt::Result {
        let stages: Vec<&Stage> = self.stages(composition).collect();
        let of = |stage: &Stage, state: &State| format!("{}.{}", stage.name, state.name);
        let all: Vec<String> =
            stages.iter().flat_map(|stage| stage.pipe.states.iter().map(|state| of(stage, state))).collect();
        let rewritten = made.rewritten.as_deref();
        for note in rewritten.iter().flat_map(|rewritten| &rewritten.notes) {
            heading(f, "rewrite", note)?;
        }
        // The states of what is left, by their names in the pass.
        let states: Vec<String> = match rewritten {
            Some(rewritten) => rewritten.kept.iter().map(|kept| all[kept.state].clone()).collect(),
            None => all.clone(),
        };
        match made.plan {
            PassPlan::Digest(_) => heading(f, "code", "another crate's")?,
            _ => heading(f, "code", made.backend)?,
        }
        if made.stages.is_empty() {
            heading(f, "body", "a plain copy (nothing, when reading only)")?;
        } else {
            f.push_str(&made.plan.outline(&states));
        }
        let Some(rewritten) = rewritten else { return Ok(()) };
        for kept in &rewritten.kept {
            let name = &all[kept.state];
            match kept.part {
                StatePart::Whole => {}
                StatePart::Piece(_) => heading(f, "after", format_args!("{name} is put together again"))?,
            }
        }
        for link in &rewritten.links {
            let how = if link.swapped { ", bytes swapped" } else { "" };
            heading(f, "after", format_args!("{} is {}{how}", all[link.state], all[link.from]))?;
        }
        // On what the code looks at before it runs.
        for link in &rewritten.links {
            let how = if link.swapped { ", bytes swapped," } else { "" };
            let (state, from) = (&all[link.state], &all[link.from]);
            heading(f, "given", format_args!("{state} and {from}{how} alike at the start; else as written"))?;
        }
        for cap in &rewritten.caps {
            let (state, most) = (&all[cap.state], cap.most);
            heading(
                f,
                "given",
                format_args!("{state} no more than {most:#x} at the start; else as written"),
            )?;
        }
        Ok(())
    }
}

impl PassPlan {
    /// What the loop does: its head, body, epilogue and tail, in lines under headings; `names` are the
    /// states', in (stage, state) order.
    fn outline(&self, names: &[String]) -> String {
        match self {
            #[cfg(native)]
            PassPlan::Native(emitted) => emitted.outline(names),
            PassPlan::Portable(emitted) => emitted.outline(names),
            PassPlan::Crc(code) => code.outline(names),
            PassPlan::Interpreted(stages) => interp::outline(stages),
            PassPlan::Digest(kind) => {
                let mut text = String::new();
                // Writing to a string does not fail.
                let _ = heading(
                    &mut text,
                    "body",
                    format_args!(
                        "each block is fed to {}, {} bytes, of another crate",
                        kind.title(),
                        kind.bytes()
                    ),
                );
                text
            }
        }
    }
}

/// What was proved of the pipes so far, which may have many instances.
type Known = HashMap<*const Pipe, PipeFacts>;

fn write_stage(stage: &Stage, known: &mut Known, f: &mut String) -> fmt::Result {
    let pipe = &stage.pipe;
    let facts = known.entry(Arc::as_ptr(pipe)).or_insert_with(|| analyse(pipe));
    write!(f, "  stage      {}: {}", stage.name, pipe.input)?;
    if pipe.output != pipe.input {
        write!(f, " -> {}", pipe.output)?;
    }
    write!(f, ", {}", if facts.nomod() { "passes the stream unchanged" } else { "modifies" })?;
    if facts.commutative() {
        write!(f, ", words in any order")?;
    }
    if pipe.word_bytes() > 1 {
        let rule = match pipe.tail {
            Tail::Reject => "leftover bytes refused",
            Tail::Zero => "leftover bytes computed with zeros after them, passed as they are",
            Tail::Partial => "leftover bytes computed with zeros after them and written",
            Tail::Pass => "leftover bytes untouched",
        };
        write!(f, ", {rule}")?;
    }
    if let Some(window) = stage.window {
        write!(f, ", anew every {window} bytes")?;
    }
    writeln!(f)?;
    for (state, known) in pipe.states.iter().zip(&facts.states).filter(|_| pipe.digest.is_none()) {
        writeln!(f, "               state {}: {} is {}", state.name, state.ty, known.class)?;
    }
    Ok(())
}
