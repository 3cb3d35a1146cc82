//! How much is made of hostile programs.

use super::*;
use crate::analyse::Analysed;
use crate::ir::builder::PipeBuilder;
use crate::ir::{BinaryOp, ConvertOp, Endian, Gauge, Pipe, Ty};

/// Builds the function of one stage; the frame and how that ended.
fn build<R>(pipe: &Pipe, look: impl FnOnce(&FunctionFrame<'_>, Result<(), Refusal>) -> R) -> Option<R> {
    let features = Features::detected();
    let isa = features.isa()?;
    let stage = Analysed::new(pipe.clone().into());
    let plans = [VectorStage::of(&stage, crate::plan::target::LaneOps::All).unwrap()];
    let target = crate::backend::native::targets(features)[0]?;
    let edges = Edges::of(&plans, &target);
    let (source, stores, unroll, sets, shared) = (None, Stores::Plain, 4, 4, None);
    let shape = FunctionShape { isa, features, source, stores, unroll, sets, edges, shared };
    let mut frame = FunctionFrame::new(&plans, shape);
    let result = frame.build();
    Some(look(&frame, result))
}

#[test]
fn a_long_stage_is_refused_before_it_is_all_there() {
    // Products without carry of 32 bits are made bit by bit, for four times as many bytes as there are words.
    let mut b = PipeBuilder::new("p", Gauge::new(Ty::U8, Endian::Little));
    let x = b.input();
    let mut a = b.convert(ConvertOp::Zext, x, Ty::U32);
    for _ in 0..600 {
        a = b.binary(BinaryOp::Clmul, a, a);
    }
    let y = b.convert(ConvertOp::Trunc, a, Ty::U8);
    b.output(y);
    let pipe = b.finish().unwrap();
    build(&pipe, |frame, result| {
        assert!(result.unwrap_err().to_string().contains("machine instructions"));
        let items = frame.b.items.len();
        assert!(items < MAX_ITEMS + 2_000, "{items}");
    });
}

#[test]
fn a_table_is_laid_out_once() {
    let mut b = PipeBuilder::new("p", Gauge::new(Ty::U64, Endian::Little));
    let values: Vec<u64> = (0..4096).map(|n| n * n).collect();
    let table = b.table("t", Ty::U64, &values);
    let mut y = b.input();
    for _ in 0..10 {
        y = b.lookup(table, y);
    }
    b.output(y);
    let pipe = b.finish().unwrap();
    build(&pipe, |frame, result| {
        result.unwrap();
        let size = 8 * values.len();
        assert!((size..2 * size).contains(&frame.b.laid_out), "{}", frame.b.laid_out);
    });
}
