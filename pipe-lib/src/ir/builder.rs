//! Builds a [`Pipe`] from Rust, without text.
//!
//! Methods take and give [`Value`]s; what does not type-check is found by [`super::verify`] in
//! [`PipeBuilder::finish`], not by a panic on the way.
//!
//! ```
//! use pipe_lib::ir::{BinaryOp, Endian, Gauge, Tail, Ty, builder::PipeBuilder};
//!
//! // pipe inet_cksum : u16be tail zero { state sum: u16 = 0  in x  addc sum, sum, x  export sum }
//! let mut b = PipeBuilder::new("inet_cksum", Gauge::new(Ty::U16, Endian::Big));
//! b.tail(Tail::Zero);
//! let sum = b.state("sum", Ty::U16, 0);
//! let (x, old) = (b.input(), b.read(sum));
//! let new = b.binary(BinaryOp::Addc, old, x);
//! b.set(sum, new);
//! b.export_state("sum", sum);
//! let pipe = b.finish().unwrap();
//! assert_eq!(pipe.exports[0].name, "sum");
//! ```

use super::op::{
    BinaryOp, CompareOp, ConvertOp, CrcOp, ModOp, Op, ParamId, StateId, TableId, UnaryOp, Value, WideBinary,
    WideUnary,
};
use super::pipe::{Block, Declared, Export, Param, Pipe, State, StateInit, Table};
use super::types::{Gauge, Tail, Ty};
use super::verify::{VerifyError, verify};

/// A pipe under construction. Instructions go to the body until [`PipeBuilder::at_end`] is called, then to
/// the code that runs once at the end.
#[derive(Clone, Debug)]
pub struct PipeBuilder {
    pipe: Pipe,
    input: Option<Value>,
    next: Vec<Option<Value>>,
    in_finish: bool,
}

impl PipeBuilder {
    /// A pipe that reads and writes words of `gauge`; its tail rule is [`Tail::Reject`] until told otherwise.
    pub fn new(name: &str, gauge: Gauge) -> PipeBuilder {
        let pipe = Pipe {
            name: name.to_owned(),
            doc: String::new(),
            input: gauge,
            output: gauge,
            tail: Tail::default(),
            declared: Declared::default(),
            states: Vec::new(),
            params: Vec::new(),
            tables: Vec::new(),
            body: Block::default(),
            out: None,
            next: Vec::new(),
            finish: Block::default(),
            exports: Vec::new(),
            digest: None,
        };
        PipeBuilder { pipe, input: None, next: Vec::new(), in_finish: false }
    }

    /// Gives the output a byte order of its own (`: G -> H`).
    pub fn output_gauge(&mut self, gauge: Gauge) -> &mut Self {
        self.pipe.output = gauge;
        self
    }

    /// Sets the tail rule.
    pub fn tail(&mut self, tail: Tail) -> &mut Self {
        self.pipe.tail = tail;
        self
    }

    /// Sets the documentation.
    pub fn doc(&mut self, doc: &str) -> &mut Self {
        self.pipe.doc = doc.to_owned();
        self
    }

    /// Declares attributes for the analysis to prove.
    pub fn declare(&mut self, declared: Declared) -> &mut Self {
        self.pipe.declared = declared;
        self
    }

    /// A persistent register that starts as the constant `init`.
    pub fn state(&mut self, name: &str, ty: Ty, init: u64) -> StateId {
        self.state_from(name, ty, StateInit::Const(init))
    }

    /// A persistent register that starts as `init`.
    pub fn state_from(&mut self, name: &str, ty: Ty, init: StateInit) -> StateId {
        self.pipe.states.push(State { name: name.to_owned(), ty, init, secret: false });
        self.next.push(None);
        StateId(self.pipe.states.len() as u32 - 1)
    }

    /// A secret register, which is imported and never changes: no key is a constant of the code.
    pub fn secret(&mut self, name: &str, ty: Ty) -> StateId {
        let id = self.state(name, ty, 0);
        self.pipe.states[id.0 as usize].secret = true;
        id
    }

    /// A parameter, bound when the pipeline is composed.
    pub fn param(&mut self, name: &str, ty: Ty, default: Option<u64>) -> ParamId {
        self.pipe.params.push(Param { name: name.to_owned(), ty, default });
        ParamId(self.pipe.params.len() as u32 - 1)
    }

    /// A constant table; its length must be a power of two.
    pub fn table(&mut self, name: &str, ty: Ty, values: &[u64]) -> TableId {
        self.pipe.tables.push(Table { name: name.to_owned(), ty, values: values.into() });
        TableId(self.pipe.tables.len() as u32 - 1)
    }

    /// Appends any instruction.
    pub fn push(&mut self, op: Op, ty: Ty) -> Value {
        self.block_mut().push(op, ty)
    }

    /// The word read (`in x`); the same value however often it is asked for.
    pub fn input(&mut self) -> Value {
        match self.input {
            Some(value) if !self.in_finish => value,
            _ => {
                let value = self.push(Op::In, self.pipe.input.ty);
                self.input = Some(value);
                value
            }
        }
    }

    /// The state's value at the start of the block.
    pub fn read(&mut self, state: StateId) -> Value {
        let ty = self.pipe.states.get(state.0 as usize).map_or(Ty::U64, |state| state.ty);
        self.push(Op::State(state), ty)
    }

    /// The parameter's value.
    pub fn arg(&mut self, param: ParamId) -> Value {
        let ty = self.pipe.params.get(param.0 as usize).map_or(Ty::U64, |param| param.ty);
        self.push(Op::Param(param), ty)
    }

    /// A literal, masked to its type.
    pub fn literal(&mut self, ty: Ty, value: u64) -> Value {
        self.push(Op::Const(value & ty.mask()), ty)
    }

    /// The offset of the word in the stream, in bytes.
    pub fn pos(&mut self) -> Value {
        self.push(Op::Pos, Ty::U64)
    }

    /// `op d, a`.
    pub fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        self.push(Op::Unary(op, a), self.ty(a))
    }

    /// `op d, a, b`.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        self.push(Op::Binary(op, a, b), self.ty(a))
    }

    /// `op d, a, b` giving a `bool`.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        self.push(Op::Compare(op, a, b), Ty::Bool)
    }

    /// `sel d, cond, then, otherwise`.
    pub fn select(&mut self, cond: Value, then: Value, otherwise: Value) -> Value {
        self.push(Op::Select { cond, then, otherwise }, self.ty(then))
    }

    /// `op d, a, b, m`.
    pub fn modular(&mut self, op: ModOp, a: Value, b: Value, m: Value) -> Value {
        self.push(Op::Modular(op, a, b, m), self.ty(a))
    }

    /// A change of width to `ty`.
    pub fn convert(&mut self, op: ConvertOp, a: Value, ty: Ty) -> Value {
        self.push(Op::Convert(op, a), ty)
    }

    /// `lookup d, table, index`.
    pub fn lookup(&mut self, table: TableId, index: Value) -> Value {
        let ty = self.pipe.tables.get(table.0 as usize).map_or(Ty::U64, |table| table.ty);
        self.push(Op::Lookup(table, index), ty)
    }

    /// A CRC step.
    pub fn crc(&mut self, op: CrcOp, acc: Value, x: Value) -> Value {
        self.push(Op::Crc(op, acc, x), Ty::U32)
    }

    /// `op d, a` on 128 bits, with a result of type `ty`.
    pub fn wide_unary(&mut self, op: WideUnary, a: Value, ty: Ty) -> Value {
        self.push(Op::WideUnary(op, a), ty)
    }

    /// `op d, a, b` on 128 bits.
    pub fn wide_binary(&mut self, op: WideBinary, a: Value, b: Value) -> Value {
        self.push(Op::WideBinary(op, a, b), Ty::U128)
    }

    /// The state's new value after each word; the last call counts, and a state never set keeps its value.
    pub fn set(&mut self, state: StateId, value: Value) -> &mut Self {
        if let Some(slot) = self.next.get_mut(state.0 as usize) {
            *slot = Some(value);
        }
        self
    }

    /// The word written (`out x`); the last call counts.
    pub fn output(&mut self, value: Value) -> &mut Self {
        self.pipe.out = Some(value);
        self
    }

    /// From here on instructions belong to the code that runs once at the end.
    pub fn at_end(&mut self) -> &mut Self {
        self.in_finish = true;
        self
    }

    /// Exports a value computed after [`PipeBuilder::at_end`].
    pub fn export(&mut self, name: &str, value: Value) -> &mut Self {
        self.pipe.exports.push(Export { name: name.to_owned(), value });
        self
    }

    /// Exports the final value of a state as it is.
    pub fn export_state(&mut self, name: &str, state: StateId) -> &mut Self {
        let ty = self.pipe.states.get(state.0 as usize).map_or(Ty::U64, |state| state.ty);
        let value = self.pipe.finish.push(Op::State(state), ty);
        self.export(name, value)
    }

    /// The pipe, checked.
    pub fn finish(mut self) -> Result<Pipe, VerifyError> {
        for (index, next) in self.next.iter().enumerate() {
            let ty = self.pipe.states[index].ty;
            let value = next.unwrap_or_else(|| self.pipe.body.push(Op::State(StateId(index as u32)), ty));
            self.pipe.next.push(value);
        }
        verify(&self.pipe)?;
        Ok(self.pipe)
    }

    /// The type of a value of the current block; `u64` for one that does not exist (which `finish` reports).
    pub fn ty(&self, value: Value) -> Ty {
        let block = if self.in_finish { &self.pipe.finish } else { &self.pipe.body };
        block.insts.get(value.0 as usize).map_or(Ty::U64, |inst| inst.ty)
    }

    fn block_mut(&mut self) -> &mut Block {
        if self.in_finish { &mut self.pipe.finish } else { &mut self.pipe.body }
    }
}
