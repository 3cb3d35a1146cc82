//! Loops of AES in order: what depends on something stays behind it, rounds stand side by side.

use super::*;
use crate::analyse::Analysed;
use crate::backend::Stripes;
use crate::backend::native::abi::{DST, SRC};
use crate::backend::native::frame::{FunctionShape, Stores, virtual_code};
use crate::backend::native::regalloc;
use crate::plan::wide::WidePlan;
use crate::{Features as Named, Library};

const VAES: &str = "avx2,pclmul,vpclmul,aes,vaes";
const AES: &str = "avx2,pclmul,aes";

/// The function of a standard pipeline as it was lowered, with how many vectors an iteration has.
fn lowered(text: &str, features: &str, stores: Stores) -> (Builder, usize) {
    let features = Named::of_machine(features).unwrap();
    let pipeline = Library::standard().pipeline(text).unwrap();
    let stages = Analysed::all(pipeline.composition().stages.iter().map(|stage| &stage.pipe));
    let plan = WidePlan::new(&stages, &crate::backend::native::targets(features)).unwrap();
    let mut shape = FunctionShape::of(&plan, plan.target.features.isa().unwrap());
    shape.stores = stores;
    loop {
        let code = virtual_code(&plan.stages, shape).unwrap();
        if regalloc::assemble(&code).is_ok() {
            return (code, shape.unroll);
        }
        shape.unroll /= 2;
    }
}

/// The iteration of the first loop.
fn iteration(code: &Builder) -> Vec<LineInst> {
    let enter = code.items.iter().position(|item| matches!(item, CodeItem::EnterLoop)).unwrap();
    let mut loop_items = code.items[enter..].iter().skip_while(|item| !matches!(item, CodeItem::Bind(_)));
    loop_items.next();
    let body = loop_items.take_while(|item| matches!(item, CodeItem::Inst(_) | CodeItem::Streamed));
    line(&body.copied().collect::<Vec<_>>()).unwrap()
}

fn rounds(line: &[LineInst]) -> Vec<&MachInst> {
    line.iter().map(|entry| &entry.inst).filter(|inst| is_round(inst)).collect()
}

/// Whether the loop reads what was stored before its iteration.
fn is_pipelined(line: &[LineInst]) -> bool {
    line.iter().any(|entry| {
        matches!(entry.inst.ops[1], Operand::Mem(Mem::Base { base: SRC, index: DST, disp: ..0, .. }))
    })
}

#[test]
fn rounds_of_copies_stand_side_by_side_with_one_load_of_a_key() {
    for text in ["aes128_gcm_seal", "aes128_gcm_open", "aes256_gcm_seal"] {
        let (mut code, unroll) = lowered(text, VAES, Stores::Plain);
        assert_eq!(unroll, 4, "{text}");
        assert!(has_long_chains(&code) && order(&mut code, true), "{text}");
        assert!(regalloc::assemble(&code).is_ok(), "{text}");
        let line = iteration(&code);
        let (rounds, mut in_row) = (rounds(&line), 0);
        for row in rounds.windows(unroll) {
            let made: HashSet<VReg> = row.iter().filter_map(|inst| inst.def).collect();
            let is_apart = !row.iter().any(|inst| reads(inst).any(|reg| made.contains(&reg)));
            in_row += usize::from(is_apart);
        }
        // Chains that begin a little later end a little later.
        assert!(4 * in_row >= 3 * rounds.len(), "{text}: {in_row} of {}", rounds.len());
        let loads = line.iter().filter(|entry| loads_state(&entry.inst)).count();
        assert!(loads <= rounds.len() / unroll + 2, "{text}: {loads} loads of keys");
        // What is opened is hashed before it is overwritten.
        assert_eq!(is_pipelined(&line), text.ends_with("seal"), "{text}");
    }
}

#[test]
fn what_goes_around_the_caches_is_not_read_back() {
    for (stores, reads_back) in [(Stores::Streamable, false), (Stores::Plain, true)] {
        let (mut code, _) = lowered("aes128_gcm_seal", VAES, stores);
        assert!(order(&mut code, reads_back));
        assert_eq!(is_pipelined(&iteration(&code)), reads_back);
    }
    // Nor by the same function with other stores, as it is made elsewhere.
    for (text, is_made_anew) in [("aes128_gcm_seal", true), ("aes128_gcm_open", false)] {
        let features = Named::of_machine(VAES).unwrap();
        let pipeline = Library::standard().pipeline(text).unwrap();
        let stages = Analysed::all(pipeline.composition().stages.iter().map(|stage| &stage.pipe));
        let code = crate::backend::native::compile(&stages, features, Stripes::default()).unwrap();
        assert_eq!(code.streaming.len() != code.copying.len(), is_made_anew, "{text}");
    }
}

#[test]
fn what_depends_on_something_stays_behind_it() {
    let pipelines = [
        "aes128_gcm_seal",
        "aes128_gcm_open",
        "aes256_gcm_open",
        "aes128_ctr",
        "aes128_gcm_seal | inet_cksum",
        "inet_cksum | aes128_gcm_open",
        "xor32(key=1) | aes128_ctr | byteswap32",
    ];
    let mut ordered = 0;
    for (text, features) in pipelines.iter().flat_map(|text| [VAES, AES].map(|features| (*text, features))) {
        let (mut code, _) = lowered(text, features, Stores::Plain);
        let Some(before) = LoopPlace::of(&code.items).and_then(|place| line(&code.items[place.body])) else {
            continue;
        };
        let once = computed_once(&code, before);
        let before = without_copies(&mut code, once);
        let before = used(&code, before);
        for entry in &before {
            let carried = entry.inst.def.filter(|def| !is_temporary(&code, *def));
            let again = before.iter().filter(|other| carried.is_some() && other.inst.def == carried).count();
            assert!(again <= 1 || !has_copies(&code, &before, carried.unwrap()), "{text}");
        }
        let Some(after) = list::ordered(&mut code, &before) else { continue };
        ordered += 1;
        let (before, after) = (by_place(&code, before), by_place(&code, after));
        assert_eq!(before.len(), after.len(), "{text}");
        let place = |inst: &MachInst| after.iter().position(|entry| entry.inst == *inst).unwrap();
        for (at, second) in before.iter().enumerate() {
            for first in before[..at].iter().filter(|first| conflict(&first.inst, &second.inst)) {
                assert!(
                    place(&first.inst) < place(&second.inst),
                    "{text}, {features}: {first:?}, {second:?}"
                );
            }
        }
    }
    assert!(ordered >= 8, "{ordered}");
}

/// Whether the register is copied somewhere.
fn has_copies(code: &Builder, line: &[LineInst], register: VReg) -> bool {
    line.iter().any(|entry| {
        let is_copy = entry.inst.code == code.load_code() && entry.inst.def.is_some();
        is_copy && matches!(entry.inst.ops[1], Operand::Reg(from, _) if from == register)
    })
}

/// The line with each state loaded once, in a register that is named after where it is.
fn by_place(code: &Builder, line: Vec<LineInst>) -> Vec<LineInst> {
    let mut line = computed_once(code, line);
    let names: HashMap<VReg, VReg> = line
        .iter()
        .filter(|entry| loads_state(&entry.inst))
        .map(|entry| match entry.inst.ops[1] {
            Operand::Mem(Mem::Base { disp, .. }) => (entry.inst.def.unwrap(), VReg(1 << 20 | disp as u32)),
            _ => unreachable!("a load"),
        })
        .collect();
    for entry in &mut line {
        rename(&mut entry.inst, |reg| names.get(&reg).copied());
        if let Some(name) = entry.inst.def.and_then(|def| names.get(&def)) {
            define(&mut entry.inst, *name);
        }
    }
    line
}

/// Whether one writes what the other reads or writes, with memory of 32 bytes at each place.
fn conflict(one: &MachInst, other: &MachInst) -> bool {
    let registers = |a: &MachInst, b: &MachInst| {
        a.def.is_some_and(|def| b.def == Some(def) || reads(b).any(|reg| reg == def))
    };
    let of_stream = |inst: &MachInst| {
        inst.ops.iter().find_map(|op| match op {
            Operand::Mem(Mem::Base { base: SRC, disp, .. }) => Some(*disp),
            _ => None,
        })
    };
    let is_store = |inst: &MachInst| inst.def.is_none();
    let memory = match (of_stream(one), of_stream(other)) {
        (Some(one_at), Some(other_at)) => {
            (is_store(one) || is_store(other)) && (one_at - other_at).abs() < 32
        }
        _ => false,
    };
    registers(one, other) || registers(other, one) || memory
}

#[test]
fn powers_that_stood_on_the_stack_are_overwritten() {
    let (code, unroll) = lowered("aes128_gcm_seal", VAES, Stores::Plain);
    let is_zero = |reg: VReg| match code.kinds[reg.0 as usize] {
        RegKind::Const(entry) => code.pool[entry as usize].iter().all(|byte| *byte == 0),
        _ => false,
    };
    let mut last: HashMap<i32, bool> = HashMap::new();
    let is_end = |item: &CodeItem| matches!(item, CodeItem::Scalar(inst) if inst.code() == Code::Add_rm64_imm32 && inst.op0_register() == Register::RSP);
    let end = code.items.iter().position(is_end).unwrap();
    for item in &code.items[..end] {
        let CodeItem::Inst(inst) = item else { continue };
        if let [
            Operand::Mem(Mem::Base { base: Register::RSP, disp: disp @ 0.., .. }),
            Operand::Reg(reg, _),
            ..,
        ] = inst.ops
        {
            last.insert(disp, is_zero(reg));
        }
    }
    assert_eq!(last.len(), unroll);
    assert!(last.values().all(|is_zero| *is_zero), "{last:?}");
}
