//! What a pass was made as, in lines for people to read.

use super::body::{Accumulate, Carry, Reg, VectorBody, VectorOp};
use super::{EmittedLoops, VECTOR_BYTES};
use crate::analyse::Reduce;
use crate::ir::{Block, Op};
use crate::outline::{bytes, heading, operation};
use std::fmt::{self, Write as _};

impl EmittedLoops {
    /// What the loop does; `names` are the states', in (stage, state) order.
    pub(crate) fn outline(&self, names: &[String]) -> String {
        let mut text = String::new();
        let f = &mut text;
        // Writing to a string does not fail.
        let _ = match (&self.lanes, &self.plan.vector) {
            (Some(lanes), _) => write_wide(&lanes.body, lanes.unroll, names, f),
            (None, Err(why)) => self.write_words(why, f),
            (None, Ok(_)) => Ok(()),
        };
        if self.plan.gauge > 1 {
            let operations = self.plan.tail.block.insts.len();
            let bytes = bytes(self.plan.gauge - 1);
            let _ = heading(
                f,
                "tail",
                format_args!("the last 1 to {bytes}: {operations} operations without branches"),
            );
        }
        text
    }

    /// A loop that takes one word after the other, because of `why`.
    fn write_words(&self, why: &str, f: &mut String) -> fmt::Result {
        let block = &self.plan.word.block;
        heading(f, "head", "states into registers")?;
        heading(f, "body", format_args!("word after word, because of this: {why}"))?;
        heading(f, "", format_args!("{} operations a loop word:", block.insts.len()))?;
        block_lines(block).into_iter().try_for_each(|line| heading(f, "", line))?;
        heading(f, "epilogue", "states back to memory")
    }
}

fn write_wide(body: &VectorBody, unroll: usize, names: &[String], f: &mut String) -> fmt::Result {
    let name = |state: u32| names.get(state as usize).map_or("?", String::as_str);
    writeln!(f, "  head       {} accumulators a copy at their neutral values", body.accumulators.len())?;
    for (i, inst) in body.insts.iter().enumerate().filter(|(_, inst)| inst.op.invariant()) {
        writeln!(f, "               v{i}.{} = {}", lanes(inst.lane), vector_operation(inst.op, names))?;
    }
    let turn = match unroll {
        1 => "one an iteration".to_owned(),
        _ => format!("{unroll} an iteration, then one by one"),
    };
    writeln!(f, "  body       for each {VECTOR_BYTES} bytes, {turn}:")?;
    for (i, inst) in body.insts.iter().enumerate().filter(|(_, inst)| !inst.op.invariant()) {
        writeln!(f, "               v{i}.{} = {}", lanes(inst.lane), vector_operation(inst.op, names))?;
    }
    for acc in &body.accumulators {
        let operands: Vec<String> = acc.operands.iter().map(|Reg(reg)| format!("v{reg}")).collect();
        let how = match acc.form {
            Accumulate::Lanes => format!("{} by lanes of {} bits", acc.op, 8 * acc.lane),
            Accumulate::Sum { .. } => format!("sum of lanes of {} bits in 64-bit lanes", 8 * acc.lane),
        };
        writeln!(f, "               {} += {} ({how})", name(acc.state), operands.join(", "))?;
    }
    for carry in &body.carries {
        match carry {
            Carry::Previous { state, of, .. } => {
                writeln!(
                    f,
                    "               {} = last lane of v{}, for the next register",
                    name(*state),
                    of.0
                )?;
            }
            Carry::Induction { state, of, .. } => {
                writeln!(
                    f,
                    "               {} = first lane of v{}, for the next register",
                    name(*state),
                    of.0
                )?;
            }
            Carry::Running { states, op, .. } => {
                let names: Vec<&str> = states.iter().map(|state| name(*state)).collect();
                let pass = if names.len() == 1 { "passes" } else { "pass" };
                writeln!(f, "               {} ({op}) {pass} from register to register", names.join(", "))?;
            }
            Carry::System { system, of } => {
                let names: Vec<&str> = system.states.iter().map(|state| name(*state)).collect();
                let of: Vec<String> = of.iter().map(|of| format!("v{}", of.0)).collect();
                writeln!(
                    f,
                    "               {}, {} words on, plus {}",
                    names.join(", "),
                    system.words(VECTOR_BYTES),
                    of.join(", ")
                )?;
            }
            Carry::Sums { sum, sum_of_sums, of, .. } => writeln!(
                f,
                "               {} and {}: sum of v{} and of its values so far, by weights of position",
                name(*sum),
                name(*sum_of_sums),
                of.0
            )?,
        }
    }
    match body.out {
        Some(Reg(reg)) => writeln!(f, "               store v{reg}")?,
        None => writeln!(f, "               store the register as read (nothing, when reading only)")?,
    }
    for acc in &body.accumulators {
        let swap = if acc.swapped { ", bytes swapped" } else { "" };
        let fold = match acc.op {
            Reduce::Addc => format!("folded to {} bits with end-around carry{swap}, ", acc.ty.bits()),
            Reduce::Addmod(m) => format!("reduced modulo {m}, "),
            Reduce::Adds => format!("{} at most, ", acc.ty.mask()),
            _ => String::new(),
        };
        writeln!(
            f,
            "  epilogue   {}: copies and lanes together, {fold}then {} with the imported value",
            name(acc.state),
            acc.op
        )?;
    }
    Ok(())
}

fn lanes(lane: u8) -> String {
    format!("u{}", 8 * u32::from(lane))
}

fn vector_operation(op: VectorOp, states: &[String]) -> String {
    let r = |reg: Reg| format!("v{}", reg.0);
    match op {
        VectorOp::Chunk => "the register as read".into(),
        VectorOp::Splat(value) => format!("{value:#x} in every lane"),
        VectorOp::Invariant(state) => {
            format!("{} in every lane", states.get(state as usize).map_or("?", String::as_str))
        }
        VectorOp::Phase(table) => format!("pattern {table}, by the offset in the stream"),
        VectorOp::Offset { .. } => "the offsets of the words".into(),
        VectorOp::Induction(_) => "the values at the words of the register".into(),
        VectorOp::Later { of, .. } => format!("{}, a register of words later", r(of)),
        VectorOp::Lookup(table, index) => format!("lookup table {table}, {}", r(index)),
        VectorOp::Slide { of, .. } => format!("{}, one word later", r(of)),
        VectorOp::Unary(op, a) => format!("{} {}", op.name(), r(a)),
        VectorOp::Binary(op, a, b) => format!("{} {}, {}", op.name(), r(a), r(b)),
        VectorOp::Compare(op, a, b) => format!("{} {}, {}", op.name(), r(a), r(b)),
        VectorOp::Select(c, a, b) => format!("sel {}, {}, {}", r(c), r(a), r(b)),
        VectorOp::Extend { from, high, signed } => format!(
            "{} {} half of {}",
            if signed { "sext" } else { "zext" },
            if high { "later" } else { "earlier" },
            r(from)
        ),
        VectorOp::Narrow(a, b) => format!("trunc {}, {}", r(a), r(b)),
        VectorOp::Previous { of, .. } => format!("{}, one word later", r(of)),
        VectorOp::Running { of, .. } => format!("running result over {}", r(of)),
    }
}

fn block_lines(block: &Block) -> Vec<String> {
    let plain = |op: &Op| operation(op, |value| format!("v{}", value.0));
    block.iter().map(|(value, inst)| format!("v{} {} = {}", value.0, inst.ty, plain(&inst.op))).collect()
}
