//! Scalar operations in Cranelift's IR: values of their own width, `bool` as an 8-bit 0 or 1.

use crate::ir::{BinaryOp, Block, CompareOp, ConvertOp, CrcOp, ModOp, Op, Table, Ty, UnaryOp, eval};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, ExternalName, GlobalValueData, InstBuilder, MemFlagsData, Signature, Type, UserExternalName,
    Value, types,
};
use cranelift_frontend::FunctionBuilder;

/// Tables that generated code reads: in this process's memory, through literal addresses, or as data of an
/// object file.
#[derive(Default)]
pub(super) struct ConstantTables {
    kept: Vec<Box<[u8]>>,
    /// In an object file, the number of the first table among the data.
    first: Option<u32>,
    /// What of the library code would have to call, and cannot from an object file.
    pub(super) missing: Option<&'static str>,
}

/// Where generated code finds a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum TableAddress {
    Literal(*const u8),
    /// The number of a data object of the module, which are numbered as they are declared.
    Data(u32),
}

impl TableAddress {
    pub(super) fn value(self, b: &mut FunctionBuilder<'_>) -> Value {
        match self {
            TableAddress::Literal(address) => b.ins().iconst(types::I64, address as i64),
            TableAddress::Data(index) => {
                // What `Module::declare_data_in_func` does, which wants the module.
                let name = b.func.declare_imported_user_function(UserExternalName { namespace: 1, index });
                let data = b.create_global_value(GlobalValueData::Symbol {
                    name: ExternalName::user(name),
                    offset: 0.into(),
                    colocated: true,
                    tls: false,
                });
                b.ins().symbol_value(types::I64, data)
            }
        }
    }
}

impl ConstantTables {
    /// Tables of an object file; `first` is the number of the first one among its data.
    #[cfg(feature = "emit")]
    pub(super) fn in_object(first: u32) -> ConstantTables {
        ConstantTables { first: Some(first), ..ConstantTables::default() }
    }

    /// Keeps a table for as long as the code lives.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) -> TableAddress {
        if let Some(first) = self.first {
            let known = self.kept.iter().position(|kept| **kept == *bytes);
            let index = known.unwrap_or_else(|| {
                self.kept.push(bytes.into_boxed_slice());
                self.kept.len() - 1
            });
            return TableAddress::Data(first + index as u32);
        }
        self.kept.push(bytes.into_boxed_slice());
        TableAddress::Literal(self.kept[self.kept.len() - 1].as_ptr())
    }

    /// A table that is part of the library.
    fn fixed(&mut self, table: &'static [u32]) -> TableAddress {
        if self.first.is_some() {
            return self.keep(table.iter().flat_map(|entry| entry.to_le_bytes()).collect());
        }
        TableAddress::Literal(table.as_ptr().cast())
    }

    fn elements(&mut self, table: &Table) -> TableAddress {
        let size = table.ty.bytes();
        self.keep(table.values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect())
    }

    pub(super) fn into_owned(self) -> Vec<Box<[u8]>> {
        self.kept
    }
}

/// Cranelift's type for a scalar.
pub(super) const fn scalar_type(ty: Ty) -> Type {
    match ty {
        Ty::Bool | Ty::U8 => types::I8,
        Ty::U16 => types::I16,
        Ty::U32 => types::I32,
        Ty::U64 => types::I64,
        Ty::U128 => types::I128,
    }
}

/// A literal; Cranelift takes the bits above the type as zero.
fn iconst(b: &mut FunctionBuilder<'_>, ty: Ty, value: u64) -> Value {
    b.ins().iconst(scalar_type(ty), value as i64)
}

/// Emits `block`; `leaf` gives the values of `in`, states and `pos`. Gives the values of all instructions.
pub(super) fn block(
    b: &mut FunctionBuilder<'_>,
    block: &Block,
    tables: &[Table],
    kept: &mut ConstantTables,
    mut leaf: impl FnMut(&mut FunctionBuilder<'_>, Op) -> Value,
) -> Result<Vec<Value>, String> {
    let addresses: Vec<TableAddress> = tables.iter().map(|table| kept.elements(table)).collect();
    let mut values: Vec<Value> = Vec::with_capacity(block.insts.len());
    for (_, inst) in block.iter() {
        let at = |value: crate::ir::Value| values[value.0 as usize];
        let ty = inst.ty;
        let value = match inst.op {
            Op::In | Op::State(_) | Op::Pos => leaf(b, inst.op),
            Op::Param(_) => return Err("an unbound parameter".into()),
            Op::Const(value) => iconst(b, ty, value),
            Op::Unary(op, a) => unary(b, op, ty, at(a)),
            Op::Binary(op, x, y) => binary(b, op, ty, at(x), at(y)),
            Op::Compare(op, x, y) => compare(b, op, block.ty(x), at(x), at(y)),
            Op::Select { cond, then, otherwise } => b.ins().select(at(cond), at(then), at(otherwise)),
            Op::Modular(op, x, y, m) => modular(b, op, ty, [at(x), at(y), at(m)], block.literal(m), kept),
            Op::Convert(op, a) => convert(b, op, block.ty(a), ty, at(a)),
            Op::Lookup(table, index) => {
                let len = tables[table.0 as usize].values.len() as u64;
                let address = addresses[table.0 as usize];
                lookup(b, address, len, ty, block.ty(index), at(index))
            }
            Op::WideUnary(..) | Op::WideBinary(..) => return Err("values of 128 bits".to_owned()),
            Op::Crc(op, acc, x) => crc(b, kept, op, [at(acc), at(x)], block.ty(x).bytes()),
        };
        values.push(value);
    }
    Ok(values)
}

fn unary(b: &mut FunctionBuilder<'_>, op: UnaryOp, ty: Ty, a: Value) -> Value {
    match op {
        UnaryOp::Neg => b.ins().ineg(a),
        UnaryOp::Not if ty == Ty::Bool => b.ins().bxor_imm_u(a, 1),
        UnaryOp::Not => b.ins().bnot(a),
        UnaryOp::Bswap if ty.bytes() == 1 => a,
        UnaryOp::Bswap => b.ins().bswap(a),
        UnaryOp::Bitrev => b.ins().bitrev(a),
        UnaryOp::Popcnt => b.ins().popcnt(a),
        UnaryOp::Clz => b.ins().clz(a),
        UnaryOp::Ctz => b.ins().ctz(a),
    }
}

fn binary(b: &mut FunctionBuilder<'_>, op: BinaryOp, ty: Ty, x: Value, y: Value) -> Value {
    match op {
        BinaryOp::Add => b.ins().iadd(x, y),
        BinaryOp::Sub => b.ins().isub(x, y),
        BinaryOp::Mul => b.ins().imul(x, y),
        BinaryOp::And => b.ins().band(x, y),
        BinaryOp::Or => b.ins().bor(x, y),
        BinaryOp::Xor => b.ins().bxor(x, y),
        BinaryOp::Shl => b.ins().ishl(x, y),
        BinaryOp::Shr => b.ins().ushr(x, y),
        BinaryOp::Sar => b.ins().sshr(x, y),
        BinaryOp::Rotl => b.ins().rotl(x, y),
        BinaryOp::Rotr => b.ins().rotr(x, y),
        BinaryOp::Min => extremum(b, IntCC::UnsignedLessThan, x, y),
        BinaryOp::Max => extremum(b, IntCC::UnsignedGreaterThan, x, y),
        BinaryOp::Smin => extremum(b, IntCC::SignedLessThan, x, y),
        BinaryOp::Smax => extremum(b, IntCC::SignedGreaterThan, x, y),
        BinaryOp::Addc => {
            let sum = b.ins().iadd(x, y);
            let carry = b.ins().icmp(IntCC::UnsignedLessThan, sum, x);
            let carry = if ty.bytes() == 1 { carry } else { b.ins().uextend(scalar_type(ty), carry) };
            b.ins().iadd(sum, carry)
        }
        BinaryOp::Adds | BinaryOp::Subs | BinaryOp::Sadds | BinaryOp::Ssubs => saturating(b, op, ty, x, y),
        BinaryOp::Clmul | BinaryOp::Clmulh => carryless(b, op, ty, x, y),
    }
}

fn extremum(b: &mut FunctionBuilder<'_>, cc: IntCC, x: Value, y: Value) -> Value {
    let first = b.ins().icmp(cc, x, y);
    b.ins().select(first, x, y)
}

fn saturating(b: &mut FunctionBuilder<'_>, op: BinaryOp, ty: Ty, x: Value, y: Value) -> Value {
    match op {
        // What there is room for is added, what there is is subtracted.
        BinaryOp::Adds => {
            let room = b.ins().bnot(x);
            let fits = extremum(b, IntCC::UnsignedLessThan, y, room);
            b.ins().iadd(x, fits)
        }
        BinaryOp::Subs => {
            let less = extremum(b, IntCC::UnsignedLessThan, x, y);
            b.ins().isub(x, less)
        }
        // A sum has overflowed if its sign differs from both terms'; a difference, if its sign differs from
        // the first one's and that from the second's.
        _ => {
            let sum = op == BinaryOp::Sadds;
            let plain = if sum { b.ins().iadd(x, y) } else { b.ins().isub(x, y) };
            let one = b.ins().bxor(plain, x);
            let other = b.ins().bxor(if sum { plain } else { x }, y);
            let signs = b.ins().band(one, other);
            let over = b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
            let negative = b.ins().sshr_imm_u(x, i64::from(ty.bits()) - 1);
            let most = iconst(b, ty, ty.mask() >> 1);
            let end = b.ins().bxor(negative, most);
            b.ins().select(over, end, plain)
        }
    }
}

/// One bit of `y` at a time: shift, mask, exclusive or.
fn carryless(b: &mut FunctionBuilder<'_>, op: BinaryOp, ty: Ty, x: Value, y: Value) -> Value {
    let bits = i64::from(ty.bits());
    let mut sum = iconst(b, ty, 0);
    let high = op == BinaryOp::Clmulh;
    for bit in i64::from(high)..bits {
        let top = b.ins().ishl_imm_u(y, bits - 1 - bit);
        let chosen = b.ins().sshr_imm_u(top, bits - 1);
        let part = if high { b.ins().ushr_imm_u(x, bits - bit) } else { b.ins().ishl_imm_u(x, bit) };
        let part = b.ins().band(part, chosen);
        sum = b.ins().bxor(sum, part);
    }
    sum
}

fn compare(b: &mut FunctionBuilder<'_>, op: CompareOp, ty: Ty, x: Value, y: Value) -> Value {
    let condition = match (op, ty) {
        (CompareOp::Eq, _) => IntCC::Equal,
        (CompareOp::Ne, _) => IntCC::NotEqual,
        // As a signed number of one bit, true is -1.
        (CompareOp::Lts, Ty::Bool) => IntCC::UnsignedGreaterThan,
        (CompareOp::Les, Ty::Bool) => IntCC::UnsignedGreaterThanOrEqual,
        (CompareOp::Ltu, _) => IntCC::UnsignedLessThan,
        (CompareOp::Leu, _) => IntCC::UnsignedLessThanOrEqual,
        (CompareOp::Lts, _) => IntCC::SignedLessThan,
        (CompareOp::Les, _) => IntCC::SignedLessThanOrEqual,
    };
    b.ins().icmp(condition, x, y)
}

/// Modular arithmetic. Up to 32 bits it is exact in 64; 64-bit sums are reduced first and corrected once.
fn modular(
    b: &mut FunctionBuilder<'_>,
    op: ModOp,
    ty: Ty,
    [x, y, m]: [Value; 3],
    literal: Option<u64>,
    kept: &mut ConstantTables,
) -> Value {
    let plain = match op {
        ModOp::Addmod => b.ins().iadd(x, y),
        ModOp::Mulmod => b.ins().imul(x, y),
    };
    if literal == Some(0) {
        return plain;
    }
    if ty == Ty::U64 && op == ModOp::Mulmod {
        return match literal {
            Some(literal) => mulmod64(b, x, y, m, literal),
            None if kept.first.is_some() => {
                kept.missing = Some("`mulmod` of 64 bits by a modulus that is no constant");
                plain
            }
            None => mulmod64_call(b, [x, y, m]),
        };
    }
    // A modulus of 0 stands for 2^width; the division must not see it.
    let modulus = match literal {
        Some(_) => m,
        None => {
            let one = iconst(b, ty, 1);
            let zero = b.ins().icmp_imm_u(IntCC::Equal, m, 0);
            b.ins().select(zero, one, m)
        }
    };
    let reduced = if ty == Ty::U64 {
        let (x, y) = (rest(b, x, modulus, literal), rest(b, y, modulus, literal));
        let sum = b.ins().iadd(x, y);
        let carried = b.ins().icmp(IntCC::UnsignedLessThan, sum, x);
        let beyond = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, sum, modulus);
        let over = b.ins().bor(carried, beyond);
        let less = b.ins().isub(sum, modulus);
        b.ins().select(over, less, sum)
    } else {
        let wide = |b: &mut FunctionBuilder<'_>, v: Value| b.ins().uextend(types::I64, v);
        let (x, y, m) = (wide(b, x), wide(b, y), wide(b, modulus));
        let exact = match op {
            ModOp::Addmod => b.ins().iadd(x, y),
            ModOp::Mulmod => b.ins().imul(x, y),
        };
        let rest = rest(b, exact, m, literal);
        b.ins().ireduce(scalar_type(ty), rest)
    };
    match literal {
        Some(_) => reduced,
        None => {
            let zero = b.ins().icmp_imm_u(IntCC::Equal, m, 0);
            b.ins().select(zero, plain, reduced)
        }
    }
}

/// `x mod m` of 64-bit numbers; `m` is not 0.
///
/// By a literal, without a division. With `c` the quotient of `2^64 - 1` by `m`, `2^64 - c m <= m`, so the
/// high half of `c x` is the quotient or one less (Granlund and Montgomery, *Division by Invariant Integers
/// using Multiplication*, 1994).
fn rest(b: &mut FunctionBuilder<'_>, x: Value, modulus: Value, literal: Option<u64>) -> Value {
    let Some(m) = literal else { return b.ins().urem(x, modulus) };
    if m.is_power_of_two() {
        return b.ins().band_imm_u(x, (m - 1) as i64);
    }
    let rest = if m >> 63 == 1 {
        x
    } else {
        let reciprocal = iconst(b, Ty::U64, u64::MAX / m);
        let quotient = b.ins().umulhi(x, reciprocal);
        let product = b.ins().imul(quotient, modulus);
        b.ins().isub(x, product)
    };
    let more = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, rest, modulus);
    let less = b.ins().isub(rest, modulus);
    b.ins().select(more, less, rest)
}

/// `x * y mod m` of 64-bit numbers by a call: Cranelift has no instruction that divides a number of two
/// words.
fn mulmod64_call(b: &mut FunctionBuilder<'_>, args: [Value; 3]) -> Value {
    extern "C" fn mulmod(x: u64, y: u64, m: u64) -> u64 {
        eval::modular(ModOp::Mulmod, Ty::U64, x, y, m)
    }
    let mut signature = Signature::new(b.func.signature.call_conv);
    signature.params.extend([AbiParam::new(types::I64); 3]);
    signature.returns.push(AbiParam::new(types::I64));
    let signature = b.import_signature(signature);
    let address = b.ins().iconst(types::I64, mulmod as *const () as i64);
    let call = b.ins().call_indirect(signature, address, &args);
    b.inst_results(call)[0]
}

/// `x * y mod m` of 64-bit numbers, by the reciprocal of `m`: Moller and Granlund, *Improved Division by
/// Invariant Integers* (2011), algorithm 4. The divisor's top bit has to be set, so both it and the product
/// move up.
fn mulmod64(b: &mut FunctionBuilder<'_>, x: Value, y: Value, modulus: Value, m: u64) -> Value {
    let up = i64::from(m.leading_zeros());
    let divisor = m << up;
    let reciprocal = (u128::MAX / u128::from(divisor)) as u64;
    // The quotient has to fit 64 bits: with `x < m`, the product's high half is below `m`.
    let x = rest(b, x, modulus, Some(m));
    let (high, low) = (b.ins().umulhi(x, y), b.ins().imul(x, y));
    let (high, low) = if up == 0 {
        (high, low)
    } else {
        let (upper, carried) = (b.ins().ishl_imm_u(high, up), b.ins().ushr_imm_u(low, 64 - up));
        (b.ins().bor(upper, carried), b.ins().ishl_imm_u(low, up))
    };
    let divisor = iconst(b, Ty::U64, divisor);
    let reciprocal = iconst(b, Ty::U64, reciprocal);
    // A quotient that is right or one too small, but for its own last correction.
    let (estimate, fraction) = (b.ins().umulhi(reciprocal, high), b.ins().imul(reciprocal, high));
    let fraction = b.ins().iadd(fraction, low);
    let carry = b.ins().icmp(IntCC::UnsignedLessThan, fraction, low);
    let carry = b.ins().uextend(types::I64, carry);
    let estimate = b.ins().iadd(estimate, high);
    let estimate = b.ins().iadd(estimate, carry);
    let estimate = b.ins().iadd_imm_s(estimate, 1);
    let product = b.ins().imul(estimate, divisor);
    let rest = b.ins().isub(low, product);
    let too_far = b.ins().icmp(IntCC::UnsignedGreaterThan, rest, fraction);
    let back = b.ins().iadd(rest, divisor);
    let rest = b.ins().select(too_far, back, rest);
    let more = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, rest, divisor);
    let less = b.ins().isub(rest, divisor);
    let rest = b.ins().select(more, less, rest);
    if up == 0 { rest } else { b.ins().ushr_imm_u(rest, up) }
}

fn convert(b: &mut FunctionBuilder<'_>, op: ConvertOp, from: Ty, to: Ty, a: Value) -> Value {
    let clif = scalar_type(to);
    match op {
        ConvertOp::Trunc => {
            let low = if from.bytes() == to.bytes() { a } else { b.ins().ireduce(clif, a) };
            if to == Ty::Bool { b.ins().band_imm_u(low, 1) } else { low }
        }
        ConvertOp::Zext if to.bytes() == from.bytes() => a,
        ConvertOp::Zext => b.ins().uextend(clif, a),
        ConvertOp::Sext if from == Ty::Bool => {
            let mask = b.ins().ineg(a);
            if to.bytes() == 1 { mask } else { b.ins().sextend(clif, mask) }
        }
        ConvertOp::Sext if to.bytes() == from.bytes() => a,
        ConvertOp::Sext => b.ins().sextend(clif, a),
    }
}

fn lookup(
    b: &mut FunctionBuilder<'_>,
    table: TableAddress,
    len: u64,
    ty: Ty,
    index_ty: Ty,
    index: Value,
) -> Value {
    let index = if index_ty == Ty::U64 { index } else { b.ins().uextend(types::I64, index) };
    let index = b.ins().band_imm_u(index, len.wrapping_sub(1) as i64);
    element(b, table, ty, index)
}

/// The `index`th element of a table of `ty`s; the index is in bounds and 64 bits wide.
fn element(b: &mut FunctionBuilder<'_>, table: TableAddress, ty: Ty, index: Value) -> Value {
    let offset = b.ins().ishl_imm_u(index, i64::from(ty.bytes().trailing_zeros()));
    let base = table.value(b);
    let address = b.ins().iadd(base, offset);
    b.ins().load(scalar_type(ty), MemFlagsData::new().with_notrap().with_readonly(), address, 0)
}

/// Slicing by the word: each byte of `acc ^ x` looks up its own remainder.
fn crc(
    b: &mut FunctionBuilder<'_>,
    kept: &mut ConstantTables,
    op: CrcOp,
    [acc, x]: [Value; 2],
    bytes: usize,
) -> Value {
    let tables = crate::backend::crc::tables(op);
    let acc = b.ins().uextend(types::I64, acc);
    let x = if bytes == 8 { x } else { b.ins().uextend(types::I64, x) };
    let mixed = b.ins().bxor(acc, x);
    // What the word does not reach of the accumulator moves down.
    let mut sum = if bytes < 4 {
        let rest = b.ins().ushr_imm_u(mixed, 8 * bytes as i64);
        b.ins().ireduce(types::I32, rest)
    } else {
        iconst(b, Ty::U32, 0)
    };
    for i in 0..bytes {
        let shifted = b.ins().ushr_imm_u(mixed, 8 * i as i64);
        let byte = b.ins().band_imm_u(shifted, 255);
        let table = kept.fixed(&tables[bytes - 1 - i]);
        let part = element(b, table, Ty::U32, byte);
        sum = b.ins().bxor(sum, part);
    }
    sum
}
