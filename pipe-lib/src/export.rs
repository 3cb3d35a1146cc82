//! How an export is got from the final registers: in most pipes one of them, or its complement; in others a
//! few instructions.

use crate::analyse::rewrite::live;
use crate::backend::interp;
use crate::ir::{BinaryOp, Block, Op, Pipe, Table, UnaryOp, Value};
use crate::registers::{INLINE, Registers};

/// The way to the value of one export.
#[derive(Debug)]
pub(crate) enum ExportExpr {
    /// A register held in place, with some bits turned over.
    Register {
        /// Place among the engine's registers.
        index: u8,
        flip: u64,
    },
    /// What the instructions that the export depends on make of the stage's registers. Elsewhere, so that the
    /// list that a short transfer looks into is short.
    Block(Box<ExportBlock>),
}

/// The instructions that an export depends on.
#[derive(Debug)]
pub(crate) struct ExportBlock {
    block: Block,
    tables: Box<[Table]>,
    /// Place of the stage's first register.
    base: usize,
    states: usize,
}

impl ExportExpr {
    /// For export number `export` of `pipe`, whose first register is number `base` of the engine's
    /// `registers`.
    pub(crate) fn new(pipe: &Pipe, export: usize, base: usize, registers: &Registers) -> ExportExpr {
        let value = pipe.exports[export].value;
        let flipped = flipped_state(&pipe.finish, value).filter(|_| registers.is_inline());
        if let Some((state, flip)) = flipped
            && let Ok(index @ 0..INLINE_END) = u8::try_from(base + state)
        {
            return ExportExpr::Register { index, flip };
        }
        let (block, _) = live(&pipe.finish, &[value]);
        let looks_up = block.insts.iter().any(|inst| matches!(inst.op, Op::Lookup(..)));
        let tables = if looks_up { pipe.tables.clone() } else { Vec::new() };
        ExportExpr::Block(Box::new(ExportBlock {
            block,
            tables: tables.into(),
            base,
            states: pipe.states.len(),
        }))
    }

    /// The export's value when the registers are these.
    #[inline]
    pub(crate) fn value(&self, registers: &[u64]) -> u64 {
        match *self {
            ExportExpr::Register { index, flip } => registers[usize::from(index)] ^ flip,
            ExportExpr::Block(ref export) => {
                let ExportBlock { block, tables, base, states } = &**export;
                interp::last_value(block, tables, &registers[*base..base + states])
            }
        }
    }
}

const INLINE_END: u8 = INLINE as u8;

/// The state and the bits to turn over, if that is all that `value` is.
fn flipped_state(block: &Block, value: Value) -> Option<(usize, u64)> {
    let inst = block.inst(value);
    match inst.op {
        Op::State(state) => Some((state.0 as usize, 0)),
        Op::Unary(UnaryOp::Not, a) => {
            flipped_state(block, a).map(|(state, flip)| (state, flip ^ inst.ty.mask()))
        }
        Op::Binary(BinaryOp::Xor, a, b) => {
            let (a, bits) = match (block.literal(a), block.literal(b)) {
                (_, Some(bits)) => (a, bits),
                (Some(bits), None) => (b, bits),
                (None, None) => return None,
            };
            flipped_state(block, a).map(|(state, flip)| (state, flip ^ bits))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ExportExpr, live};
    use crate::ir::{BinaryOp, Block, Inst, Op, Ty, UnaryOp, Value};
    use crate::registers::{INLINE, Registers};
    use crate::{Backend, Library};

    fn expr(library: &Library, text: &str, export: &str) -> (ExportExpr, Registers) {
        let pipeline = library.pipeline(text).unwrap();
        let pipe = &pipeline.composition().stages[0].pipe;
        let number = pipe.exports.iter().position(|known| known.name == export).unwrap();
        let registers = Registers::new(vec![0x1234; 1 + pipe.states.len()], false);
        (ExportExpr::new(pipe, number, 1, &registers), registers)
    }

    #[test]
    fn registers_and_their_complements_are_read_without_a_program() {
        let library = Library::standard();
        for (export, flip) in [("sum", 0), ("cksum", 0xffff)] {
            let (expr, registers) = expr(&library, "inet_cksum", export);
            assert!(matches!(expr, ExportExpr::Register { index: 1, flip: f } if f == flip), "{expr:?}");
            assert_eq!(expr.value(&registers), 0x1234 ^ flip);
        }
        let (expr, registers) = expr(&library, "adler32", "adler");
        assert!(matches!(expr, ExportExpr::Block(_)), "{expr:?}");
        assert_eq!(expr.value(&registers), 0x1234_1234);
    }

    #[test]
    fn only_what_an_export_needs_is_run() {
        let inst = |op| Inst { op, ty: Ty::U32 };
        let insts = vec![
            inst(Op::Const(3)),
            inst(Op::Const(5)),
            inst(Op::Unary(UnaryOp::Not, Value(0))),
            inst(Op::Binary(BinaryOp::Add, Value(1), Value(1))),
            inst(Op::Const(7)),
        ];
        let (kept, _) = live(&Block { insts }, &[Value(3)]);
        assert_eq!(kept.insts, [inst(Op::Const(5)), inst(Op::Binary(BinaryOp::Add, Value(0), Value(0)))]);
    }

    /// One, few, all in place, and more registers than that: each is kept and read another way.
    #[test]
    fn any_number_of_registers() {
        let library = Library::standard();
        for count in 1..=2 * INLINE {
            let stages: Vec<String> = (0..count).map(|i| format!("inet_cksum as s{i}")).collect();
            let engine = library.pipeline(&stages.join(" | xor8(key=1) | ")).unwrap();
            let run = |backend: Backend| {
                let engine = engine.compile_with(&backend.into()).unwrap();
                let mut dst = [0; 77];
                let run = engine.run(&[0x5a; 77], &mut dst).unwrap();
                engine.exports().iter().map(|export| run.value(export.id())).collect::<Vec<_>>()
            };
            assert_eq!(run(Backend::Auto), run(Backend::Interp), "{count}");
        }
    }
}
