//! Classes by example, and rewrites against evaluation.

use super::rewrite::{Rewriter, evaluate, live};
use super::{PipeFacts, analyse};
use crate::Library;
use crate::backend::testing::{Rng, listing, random_pipe};
use crate::ir::{Block, Op, Pipe, Table, Value};

fn facts(body: &str) -> (PipeFacts, Pipe) {
    let mut library = Library::standard();
    library.load("test.pipe", &format!("pipe p : {body}")).unwrap_or_else(|errors| panic!("{errors:?}"));
    let pipeline = library.pipeline("p").unwrap_or_else(|errors| panic!("{errors:?}"));
    let pipe = (*pipeline.composition().stages[0].pipe).clone();
    (analyse(&pipe), pipe)
}

#[track_caller]
fn classes(body: &str, expected: &[&str]) {
    let (facts, _) = facts(body);
    let found: Vec<String> = facts.states.iter().map(|state| state.class.to_string()).collect();
    assert_eq!(found, expected, "{body}");
}

#[test]
fn reductions() {
    classes("u16be { state s: u16 = 0; in x; addc s, s, x; export s }", &["reduction by addc"]);
    classes("u8 { state s: u8 = 0; in x; max s, x, s; export s }", &["reduction by max"]);
    // Twice through the same operation; by subtraction; by complement.
    classes("u8 { state s: u8 = 0; in x; add s, s, x; add s, s, 1; export s }", &["reduction by add"]);
    classes("u8 { state s: u8 = 0; in x; sub s, s, x; export s }", &["reduction by add"]);
    classes("u8 { state s: u8 = 0; in x; xor s, s, x; not s, s; export s }", &["reduction by xor"]);
    // A masked counter, and one that counts with a branch-free choice.
    classes(
        "u8 { state n: u64 = 0; in x; eq c, x, 10; zext b, c; add n, n, b; export n }",
        &["reduction by add"],
    );
    classes(
        "u8 { state n: u64 = 0; in x; eq c, x, 10; add m, n, 1; sel n, c, m, n; export n }",
        &["reduction by add"],
    );
    // Extremes and one's complement written out.
    classes("u8 { state s: u8 = 255; in x; ltu c, x, s; sel s, c, x, s; export s }", &["reduction by min"]);
    classes(
        "u32le { state s: u32 = 0; in x; lts c, x, s; sel s, c, s, x; export s }",
        &["reduction by smax"],
    );
    classes(
        "u32le { state s: u32 = 0; in x; add t, s, x; ltu c, t, x; zext d, c; add s, t, d; export s }",
        &["reduction by addc"],
    );
    classes(
        "u8 { state seen: bool = false; in x; eq c, x, 0; sel seen, c, true, seen; export seen }",
        &["reduction by or"],
    );
    classes(
        "u8 { state a: u16 = 1; in x; zext w, x; addmod a, a, w, 251; export a }",
        &["reduction by addmod 251"],
    );
}

#[test]
fn not_reductions() {
    // Two operations on the way.
    classes(
        "u8 { state s: u8 = 0; in x; add s, s, x; xor s, s, x; export s }",
        &["serial: each new value is computed from the one before by more than one associative operation"],
    );
    // A choice that depends on the state.
    classes(
        "u8 { state s: u8 = 0; in x; ltu c, s, 9; add t, s, x; sel s, c, t, s; export s }",
        &["serial: each new value is computed from the one before by more than one associative operation"],
    );
    // Adding 0 modulo m reduces what was imported; leaving it alone does not.
    classes(
        "u8 { state a: u16 = 1; in x; eq c, x, 0; zext w, x; addmod b, a, w, 251; sel a, c, b, a; export a }",
        &["serial: each new value is computed from the one before by more than one associative operation"],
    );
}

#[test]
fn other_classes() {
    classes("u8 { state s: u8 = 7; in x; xor x, x, s; out x; export s }", &["held"]);
    classes(
        "u8 { state k: u32 = 1; in x; rotr k, k, 8; trunc b, k; xor x, x, b; out x; export k }",
        &["positional"],
    );
    classes("u8 { state p: u8 = 0; in x; sub y, x, p; mov p, x; out y; export p }", &["delay of 1 word"]);
    classes(
        "u8 { state p: u8 = 0; state q: u8 = 0; in x; xor y, x, q; mov q, p; mov p, x; out y; export q }",
        &["delay of 1 word", "delay of 2 words"],
    );
    classes("u8 { state s: u8 = 0; in x; add s, s, x; out s; export s }", &["scan by add"]);
    classes(
        "u8 { state c: u32 = 0; in x; crc32c c, c, x; export c }",
        &["linear (32-bit CRC, polynomial 0x1edc6f41, reflected)"],
    );
    classes("u8 { state s: u8 = 0; in x; sub s, x, s; export s }", &["linear (0xff times the state, plus)"]);
    classes(
        "u8 { state a: u32 = 1; state b: u32 = 0; in x; zext w, x; addmod a, a, w, 65521; addmod b, b, a, 65521; \
         export a; export b }",
        &["scan by addmod 65521", "linear (sum of sums by addmod 65521)"],
    );
}

#[test]
fn an_output_that_is_the_input_modifies_nothing() {
    assert!(facts("u32be { in x; bswap y, x; bswap z, y; out z }").0.nomod());
    assert!(facts("u32be { in x; not y, x; xor z, y, 0xffffffff; out z }").0.nomod());
    assert!(!facts("u32be -> u32le { in x; out x }").0.nomod());
}

fn run(block: &Block, tables: &[Table], states: &[u64], input: u64, pos: u64) -> Vec<u64> {
    let mut values: Vec<u64> = Vec::new();
    for (_, inst) in block.iter() {
        let mut args = [0; 3];
        let mut ty = inst.ty;
        for (slot, operand) in args.iter_mut().zip(inst.op.operands()) {
            *slot = values[operand.0 as usize];
            ty = block.ty(operand);
        }
        values.push(match inst.op {
            Op::In => input,
            Op::Pos => pos,
            Op::State(state) => states[state.0 as usize],
            op => evaluate(&op, inst.ty, ty, args, tables).unwrap(),
        });
    }
    values
}

#[test]
fn rewrites_keep_every_value() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let pipe = random_pipe(&mut rng, seed % 2 == 0);
        let mut rewriter = Rewriter::new(&pipe.tables);
        let map = rewriter.splice(&pipe.body, 0, |_, _| None);
        let (block, tables) = rewriter.finish();
        let roots: Vec<Value> = (0..pipe.body.insts.len()).map(|i| map[i]).collect();
        let (block, roots) = live(&block, &roots);
        for _ in 0..40 {
            let input = u64::from_le_bytes(rng.bytes(8).try_into().unwrap()) & pipe.input.ty.mask();
            let states: Vec<u64> = pipe.states.iter().map(|state| rng.next() & state.ty.mask()).collect();
            let pos = rng.next() >> 20;
            let before = run(&pipe.body, &pipe.tables, &states, input, pos);
            let after = run(&block, &tables, &states, input, pos);
            for (i, root) in roots.iter().enumerate() {
                assert_eq!(
                    after[root.0 as usize],
                    before[i],
                    "seed {seed}, value {i} of {}",
                    listing(&[&pipe])
                );
            }
        }
    }
}

#[test]
fn what_a_class_claims_holds() {
    use super::{Class, Reduce};
    let mut checked = 0;
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let pipe = random_pipe(&mut rng, true);
        let facts = analyse(&pipe);
        for (state, known) in facts.states.iter().enumerate() {
            let Class::Reduction { op, operand } = known.class else { continue };
            checked += 1;
            let ty = pipe.states[state].ty;
            for _ in 0..20 {
                let input = rng.next() & pipe.input.ty.mask();
                let states: Vec<u64> = pipe.states.iter().map(|state| rng.next() & state.ty.mask()).collect();
                let pos = rng.next() >> 20;
                let next = run(&pipe.body, &pipe.tables, &states, input, pos)[pipe.next[state].0 as usize];
                let term = run(&facts.body, &facts.tables, &states, input, pos)[operand.0 as usize];
                assert_eq!(
                    op.apply(ty, states[state], term),
                    next,
                    "seed {seed}: {op} in {}",
                    listing(&[&pipe])
                );
                if !matches!(op, Reduce::Addmod(_)) {
                    assert_eq!(
                        op.apply(ty, states[state], op.identity(ty)),
                        states[state],
                        "identity of {op}"
                    );
                }
            }
        }
    }
    assert!(checked > 200, "only {checked} reductions");
}
