//! Classes by example, and rewrites against evaluation.

mod bounds;
mod fields;
mod maps;
mod small;
mod spellings;
mod systems;

use super::rewrite::{Rewriter, live};
use super::{PipeFacts, analyse};
use crate::Library;
use crate::backend::testing::{Xorshift, listing, random_pipe};
use crate::ir::builder::PipeBuilder;
use crate::ir::{Block, CompareOp, ConvertOp, Endian, Gauge, ModOp, Op, Pipe, Table, Ty, Value};

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
    classes("u8 { state s: u8; in x; mov s, 0; export s }", &["reduction by and"]);
    classes("u8 { state s: u8; in x; mov s, 0xff; export s }", &["reduction by or"]);
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
fn reductions_of_what_goes_by_states() {
    // Words before this one, and places in the stream, are known without a look at what was summed.
    classes(
        "u8 { state p: u8; state n: u64; in x; ne e, x, p; mov p, x; zext k, e; add n, n, k; export n }",
        &["delay of 1 word", "reduction by add"],
    );
    classes(
        "u8 { state prev: bool = true; state n: u64; in x; leu sp, x, 32; not ns, sp; and st, prev, ns; zext o, st; \
         add n, n, o; mov prev, sp; export n }",
        &["delay of 1 word", "reduction by add"],
    );
    classes(
        "u8 { state s: u32; state odd: bool; in x; zext w, x; shl hi, w, 8; sel v, odd, w, hi; add s, s, v; \
         not odd, odd; export s }",
        &["reduction by add", "positional"],
    );
    classes(
        "u8 { state p: u8; state s: u8; in x; xor v, x, p; mov p, x; add s, s, v; out s }",
        &["delay of 1 word", "scan by add"],
    );
    // Hashes and saturating sums may depend on them, too; a shift register goes back further by what its
    // words were before.
    classes(
        "u8 { state h: u32; state t: u8; in x; xor v, x, t; add t, t, 3; zext w, v; mul h, h, 31; add h, h, w; export h }",
        &["linear (0x1f times the state, plus)", "positional"],
    );
    classes(
        "u8 { state p: u8; state l: u16; state n: u32; in x; zext w, p; shl l, l, 8; or l, l, w; mov p, x; eq c, l, 0x0d0a; \
         zext o, c; add n, n, o; export n }",
        &["delay of 1 word", "delay of 3 words", "reduction by add"],
    );
    // Shifted by something that depends on the position, which is no function of words.
    classes(
        "u8 { state t: u8; state l: u16; in x; xor v, x, t; add t, t, 3; zext w, v; shl l, l, 8; or l, l, w; export l }",
        &["positional", "serial: each new value depends on the one before and on `t`"],
    );
    // What is positional is so beside a system as well.
    classes(
        "u8 { state a: u32; state b: u32; state c: u32; state t: u32; in x; zext w, x; mul t, t, 5; add t, t, 1; add w, w, t; \
         add a, a, w; add b, b, a; add c, c, b; export c }",
        &[
            "linear (affine together with 2 more)",
            "linear (affine together with 2 more)",
            "linear (affine together with 2 more)",
            "positional",
        ],
    );
    // A state that takes part in its own operand, or depends on one that is summed.
    let (serial, _) = facts(
        "u8 { state s: u8; state t: u8; in x; add s, s, x; xor v, x, s; max t, t, v; export s; export t }",
    );
    assert_eq!(serial.states[1].class.name(), "serial");
    assert!(
        !facts("u8 { state p: u8; state n: u8; in x; xor e, x, p; mov p, x; or n, n, e; export n }")
            .0
            .commutative()
    );
}

#[test]
fn not_reductions() {
    // Two operations on the way.
    classes(
        "u8 { state s: u8 = 0; in x; add s, s, x; xor s, s, x; export s }",
        &["serial: each new value is computed from the one before by more than one associative operation"],
    );
    // A choice between two operations.
    classes(
        "u8 { state s: u8; in x; ltu c, x, 9; add a, s, x; xor b, s, x; sel s, c, a, b; export s }",
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
    classes("u8 { state s: u8 = 7; in x; xor x, x, s; out x; export s }", &["invariant"]);
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

/// What has to be told where in the stream it is, though no state knows: the output, a new value, or what is
/// summed.
#[test]
fn places_without_states() {
    for body in [
        "u8 { in x; pos p; trunc.u8 b, p; xor x, x, b; out x }",
        "u8 { state s: u8; in x; pos p; trunc.u8 b, p; rotl s, s, 1; xor s, s, b; xor s, s, x; export s }",
        "u8 { state n: u64; in x; pos p; zext.u64 w, x; mul w, w, p; add n, n, w; export n }",
    ] {
        assert!(facts(body).0.positional, "{body}");
    }
    for body in [
        "u8 { in x; pos p; trunc.u8 b, p; not x, x; out x }",
        "u8 { state n: u64; in x; zext w, x; add n, n, w; export n }",
    ] {
        assert!(!facts(body).0.positional, "{body}");
    }
}

/// Results that take turns, up to as many as are told apart.
#[test]
fn results_take_turns_up_to_sixteen() {
    for turns in [2, 16, 17] {
        let states: String = (1..=turns).map(|turn| format!("state s{turn}: u8; ")).collect();
        let moved: String = (2..=turns).rev().map(|turn| format!("mov s{turn}, s{}; ", turn - 1)).collect();
        let (facts, _) =
            facts(&format!("u8 {{ {states} in x; add y, s{turns}, x; {moved} mov s1, y; export s1 }}"));
        assert_eq!(
            facts.states[0].class.name() == "serial",
            turns == 17,
            "{turns}: {}",
            facts.states[0].class
        );
    }
}

/// What is said of registers of the words before, from which results are told apart in states of their own.
#[test]
fn registers_of_words_are_named() {
    let why = |body: &str| facts(body).0.states[0].class.to_string();
    let register = "it is a register of the words before";
    let shifted =
        "u8 { state h: u32; in x; zext w, x; shl t, h, 8; xor t, t, w; mul u, w, h; xor h, t, u; export h }";
    assert!(why(shifted).contains(register), "{}", why(shifted));
    for body in [
        // By less than a word; a register as wide as the word; by another register.
        &shifted.replace("shl t, h, 8", "shl t, h, 7"),
        "u8 { state h: u8; in x; shl t, h, 3; mul u, x, h; xor h, t, u; export h }",
        "u8 { state h: u32; state g: u32; in x; zext w, x; mul g, g, w; xor g, g, 1; shl t, g, 8; mul u, w, h; xor h, t, u; \
         export h; export g }",
    ] {
        assert!(!why(body).contains(register), "{body}: {}", why(body));
    }
}

#[test]
fn an_output_that_is_the_input_modifies_nothing() {
    assert!(facts("u32be { in x; bswap y, x; bswap z, y; out z }").0.nomod());
    assert!(facts("u32be { in x; not y, x; xor z, y, 0xffffffff; out z }").0.nomod());
    assert!(!facts("u32be -> u32le { in x; out x }").0.nomod());
}

fn run(block: &Block, tables: &[Table], states: &[u64], input: u64, pos: u64) -> Vec<u64> {
    block.evaluate(tables, |leaf| match leaf {
        Op::In => input,
        Op::Pos => pos,
        Op::State(state) => states[state.0 as usize],
        leaf => unreachable!("{leaf:?}"),
    })
}

#[test]
fn rewrites_keep_every_value() {
    for seed in 0..400 {
        let mut rng = Xorshift::new(seed);
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
        let mut rng = Xorshift::new(seed);
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

/// Runs `words` words from `state`: the value of state 0 after them.
fn after(pipe: &Pipe, words: &[u64], state: u64) -> u64 {
    words
        .iter()
        .fold(state, |state, word| run(&pipe.body, &pipe.tables, &[state], *word, 0)[pipe.next[0].0 as usize])
}

#[test]
fn parts_of_a_stream_are_joined_by_what_a_linear_class_says() {
    use super::Class;
    let bodies = [
        "u8 { state c: u32 = 0xffffffff; in x; crc32c c, c, x; export c }",
        "u64le { state c: u32 = 0; in x; mul y, x, x; crc32 c, c, y; export c }",
        "u8 { state h: u32 = 7; in x; zext w, x; rotl h, h, 5; xor h, h, w; not h, h; export h }",
        "u8 { state h: u32 = 7; in x; zext w, x; mul h, h, 31; add h, h, w; export h }",
        "u32le { state h: u64 = 7; in x; zext w, x; mulmod h, h, 0xfffffffb, 0xffffffffffffffc5; addmod h, h, w, 0xffffffffffffffc5; export h }",
        "u16be { state s: u16 = 7; in x; sub s, x, s; export s }",
    ];
    let standard = ["crc16_t10dif", "crc64_nvme"];
    let pipes = bodies.iter().map(|body| facts(body).1).chain(
        standard
            .iter()
            .map(|name| (*Library::standard().pipeline(name).unwrap().composition().stages[0].pipe).clone()),
    );
    for pipe in pipes {
        let facts = analyse(&pipe);
        let Class::Linear(linear) = &facts.states[0].class else { panic!("{}", facts.states[0].class) };
        let ty = pipe.states[0].ty;
        let mut rng = Xorshift::new(5);
        for (first, second) in [(0, 0), (0, 1), (1, 0), (3, 5), (17, 100), (1, 300)] {
            let words: Vec<u64> = (0..first + second).map(|_| rng.next() & pipe.input.ty.mask()).collect();
            let start = rng.next() & ty.mask();
            let one = after(&pipe, &words[..first], start);
            let two = after(&pipe, &words[first..], 0);
            let joined = linear.join(ty, one, two, second as u64, pipe.word_bytes() as u64);
            assert_eq!(joined, Some(after(&pipe, &words, start)), "{linear}: {first} + {second} words");
        }
    }
}

#[test]
fn what_a_linear_class_claims_holds_for_random_maps() {
    use super::Class;
    use crate::ir::{BinaryOp, Block as Body, ConvertOp, StateInit, Ty, UnaryOp};
    let (mut linear, mut reduced, mut serial) = (0, 0, 0);
    for seed in 0..3000 {
        let mut rng = Xorshift::new(seed);
        let ty = rng.pick(&[Ty::U8, Ty::U16, Ty::U32, Ty::U64]);
        let mut pipe = facts("u8 { state s: u8 = 0; in x; add s, s, x; export s }").1;
        pipe.states[0].ty = ty;
        pipe.states[0].init = StateInit::Const(0);
        let mut body = Body::default();
        let word = body.push(Op::In, Ty::U8);
        let word = if ty == Ty::U8 { word } else { body.push(Op::Convert(ConvertOp::Zext, word), ty) };
        let mut values = vec![word, body.push(Op::State(crate::ir::StateId(0)), ty)];
        for _ in 0..1 + rng.below(5) {
            let a = rng.pick(&values);
            let b = if rng.below(2) == 0 {
                rng.pick(&values)
            } else {
                let literal = rng.pick(&[0, 1, 3, 7, 31, 0x8003, u64::MAX]) & ty.mask();
                body.push(Op::Const(literal), ty)
            };
            let op = match rng.below(10) {
                0 => Op::Unary(rng.pick(&[UnaryOp::Not, UnaryOp::Neg, UnaryOp::Bswap, UnaryOp::Bitrev]), a),
                1 => Op::Binary(BinaryOp::Mul, a, b),
                2 => Op::Binary(rng.pick(&[BinaryOp::And, BinaryOp::Or]), a, b),
                3 | 4 => Op::Binary(rng.pick(&[BinaryOp::Add, BinaryOp::Sub]), a, b),
                5 => {
                    Op::Binary(rng.pick(&[BinaryOp::Rotl, BinaryOp::Shl, BinaryOp::Shr, BinaryOp::Sar]), a, b)
                }
                6 => Op::Binary(BinaryOp::Clmul, a, b),
                _ => Op::Binary(BinaryOp::Xor, a, b),
            };
            values.push(body.push(op, ty));
        }
        let mut next = values[values.len() - 1];
        if rng.below(3) > 0 {
            let state = body.push(Op::State(crate::ir::StateId(0)), ty);
            let by = body.push(Op::Const(rng.pick(&[3, 5, 0x83])), ty);
            let (first, second) = rng.pick(&[
                (BinaryOp::Mul, BinaryOp::Add),
                (BinaryOp::Rotl, BinaryOp::Xor),
                (BinaryOp::Clmul, BinaryOp::Xor),
            ]);
            let moved = body.push(Op::Binary(first, state, by), ty);
            next = body.push(Op::Binary(second, moved, next), ty);
        }
        pipe.next = vec![next];
        pipe.body = body;
        let facts = analyse(&pipe);
        let words: Vec<u64> = (0..12).map(|_| rng.next() & 0xff).collect();
        let start = rng.next() & ty.mask();
        let (one, two) = (after(&pipe, &words[..5], start), after(&pipe, &words[5..], 0));
        let whole = after(&pipe, &words, start);
        match &facts.states[0].class {
            Class::Linear(map) => {
                linear += 1;
                assert_eq!(
                    map.join(ty, one, two, 7, 1),
                    Some(whole),
                    "seed {seed}: {map} in {}",
                    listing(&[&pipe])
                );
            }
            Class::Reduction { op, operand } => {
                reduced += 1;
                let term = |word: u64| run(&facts.body, &facts.tables, &[0], word, 0)[operand.0 as usize];
                let sum = words.iter().fold(start, |sum, word| op.apply(ty, sum, term(*word)));
                assert_eq!(sum, whole, "seed {seed}: {op} in {}", listing(&[&pipe]));
            }
            Class::Delay { words: back } => {
                let other = after(&pipe, &words, !start & ty.mask());
                assert!(*back as usize > words.len() || other == whole, "seed {seed}: {}", listing(&[&pipe]));
            }
            Class::Serial { .. } => serial += 1,
            _ => {}
        }
    }
    assert!(
        linear > 200 && reduced > 200 && serial > 300,
        "{linear} linear, {reduced} reductions, {serial} serial"
    );
}

#[test]
fn sums_modulo_stay_integers() {
    let mut b = PipeBuilder::new("p", Gauge::new(Ty::U8, Endian::Little));
    let x = b.input();
    let (three, one) = (b.literal(Ty::U8, 3), b.literal(Ty::U8, 1));
    let c = b.compare(CompareOp::Eq, x, three);
    let a = b.convert(ConvertOp::Zext, c, Ty::U8);
    let sum = b.modular(ModOp::Addmod, a, a, one);
    let d = b.convert(ConvertOp::Trunc, sum, Ty::Bool);
    let y = b.select(d, x, three);
    b.output(y);
    let pipe = b.finish().unwrap();
    let (rewriter, _) = super::bounds::normal_form(&pipe, &[]);
    let insts = &rewriter.block().insts;
    let fits = |inst: &crate::ir::Inst| !matches!(inst.op, Op::Modular(..)) || inst.ty.is_integer();
    assert!(insts.iter().all(fits), "{insts:#?}");
}
