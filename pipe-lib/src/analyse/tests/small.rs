//! Small bodies: what is claimed of a state of one byte, tried out.
//!
//! All bodies of one instruction over the word, the state and a few literals, one in [`SOME`] of those of
//! two, and many of three. A claim is compared with what the body does from many states, on many words; all
//! claims made of one state can be.

use super::run;
use crate::analyse::{Class, PipeFacts, analyse};
use crate::backend::testing::{Xorshift, listing};
use crate::ir::{
    BinaryOp, Block, CompareOp, Endian, Gauge, ModOp, Op, Pipe, State, StateId, StateInit, Tail, Ty, UnaryOp,
    Value,
};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The word, the state and the literals that bodies are made of.
const LITERALS: [u64; 4] = [0, 1, 0x80, 0xff];

/// Numbers that are tried: the edges, and some in between.
const NUMBERS: [u64; 12] = [0, 1, 2, 3, 0x0f, 0x55, 0x7f, 0x80, 0x81, 0xa6, 0xfe, 0xff];

/// Of so many bodies of two instructions, one is tried; 1 tries all.
const SOME: usize = 5;

fn leaves() -> Block {
    let mut body = Block::default();
    body.push(Op::In, Ty::U8);
    body.push(Op::State(StateId(0)), Ty::U8);
    LITERALS.iter().for_each(|number| {
        body.push(Op::Const(*number), Ty::U8);
    });
    body
}

/// What has been computed last, which the next instruction has to use if nothing else will.
fn last(body: &Block) -> Value {
    Value(body.insts.len() as u32 - 1)
}

fn with(body: &Block, op: Op, ty: Ty) -> Block {
    let mut body = body.clone();
    body.push(op, ty);
    body
}

/// Every instruction on the values of `body` in which all of `needed` take part.
fn each(body: &Block, needed: &[Value], mut f: impl FnMut(Op, Ty)) {
    let values = || (0..body.insts.len() as u32).map(Value);
    let of = |ty: Ty| values().filter(move |value| body.ty(*value) == ty);
    let takes_part = |operands: &[Value]| needed.iter().all(|value| operands.contains(value));
    for a in values().filter(|a| takes_part(&[*a])) {
        let ty = body.ty(a);
        for &op in UnaryOp::ALL.iter().filter(|op| ty == Ty::U8 || **op == UnaryOp::Not) {
            f(Op::Unary(op, a), ty);
        }
    }
    for a in of(Ty::U8) {
        for b in of(Ty::U8) {
            if takes_part(&[a, b]) {
                BinaryOp::ALL.iter().for_each(|op| f(Op::Binary(*op, a, b), Ty::U8));
                CompareOp::ALL.iter().for_each(|op| f(Op::Compare(*op, a, b), Ty::Bool));
                f(Op::Modular(ModOp::Addmod, a, b, Value(5)), Ty::U8);
                f(Op::Modular(ModOp::Mulmod, a, b, Value(5)), Ty::U8);
            }
            for cond in of(Ty::Bool).filter(|cond| takes_part(&[*cond, a, b])) {
                f(Op::Select { cond, then: a, otherwise: b }, Ty::U8);
            }
        }
    }
}

/// Every body of three instructions that begins with `one` and leaves no result unused.
fn each_of_three(one: &Block, mut f: impl FnMut(&Block)) {
    let first = last(one);
    each(one, &[], |op, ty| {
        let uses_first = op.operands().any(|value| value == first);
        let two = with(one, op, ty);
        let needed = [last(&two), first];
        each(&two, &needed[..if uses_first { 1 } else { 2 }], |op, ty| {
            if ty == Ty::U8 {
                f(&with(&two, op, ty));
            }
        });
    });
}

fn pipe(body: &Block, next: Value) -> Pipe {
    let gauge = Gauge::new(Ty::U8, Endian::Little);
    Pipe {
        name: "small".into(),
        doc: String::new(),
        input: gauge,
        output: gauge,
        tail: Tail::Reject,
        declared: crate::ir::Declared::default(),
        states: vec![State { name: "s".into(), ty: Ty::U8, init: StateInit::Const(0), secret: false }],
        params: Vec::new(),
        tables: Vec::new(),
        body: body.clone(),
        out: None,
        next: vec![next],
        finish: Block::default(),
        exports: Vec::new(),
        digest: None,
    }
}

/// The state after these words.
fn after(pipe: &Pipe, state: u64, words: &[u64]) -> u64 {
    words
        .iter()
        .fold(state, |state, word| run(&pipe.body, &pipe.tables, &[state], *word, 0)[pipe.next[0].0 as usize])
}

/// Tries out what is claimed; `false` if nothing is.
fn holds(pipe: &Pipe, facts: &PipeFacts, rng: &mut Xorshift) -> bool {
    let class = &facts.states[0].class;
    let say = || format!("{class}\n{}", listing(&[pipe]));
    let next = |state: u64, word: u64| after(pipe, state, &[word]);
    match class {
        Class::Serial { .. } => return false,
        Class::Invariant => {
            for state in NUMBERS {
                NUMBERS.iter().for_each(|word| assert_eq!(next(state, *word), state, "{}", say()));
            }
        }
        Class::Positional => {
            for state in NUMBERS {
                let one = next(state, 0);
                NUMBERS.iter().for_each(|word| assert_eq!(next(state, *word), one, "{}", say()));
            }
        }
        Class::Reduction { op, operand } | Class::Scan { op, operand } => {
            for word in NUMBERS {
                let term = |state| run(&facts.body, &facts.tables, &[state], word, 0)[operand.0 as usize];
                for state in NUMBERS {
                    assert_eq!(
                        op.apply(Ty::U8, state, term(0)),
                        next(state, word),
                        "{state} {word}: {}",
                        say()
                    );
                    assert_eq!(term(state), term(0), "{}", say());
                }
            }
        }
        Class::Delay { words } => {
            for _ in 0..8 {
                let stream: Vec<u64> = (0..*words).map(|_| NUMBERS[rng.below(NUMBERS.len())]).collect();
                let one = after(pipe, 0, &stream);
                NUMBERS.iter().for_each(|state| assert_eq!(after(pipe, *state, &stream), one, "{}", say()));
            }
        }
        Class::Linear(linear) => {
            for length in [1, 2, 3, 9] {
                let stream: Vec<u64> = (0..length).map(|_| NUMBERS[rng.below(NUMBERS.len())]).collect();
                let part = after(pipe, 0, &stream);
                for state in NUMBERS {
                    let joined = linear.join(Ty::U8, state, part, length, 1);
                    assert_eq!(joined, Some(after(pipe, state, &stream)), "{state}: {}", say());
                }
            }
        }
        Class::Lagged { .. } => panic!("of one state: {}", say()),
    }
    true
}

/// How many bodies there were of each class.
type Seen = BTreeMap<&'static str, usize>;

/// Tries out what is claimed of the body's last value as the state's next, if it is one.
fn look(body: &Block, rng: &mut Xorshift, seen: &mut Seen) {
    let next = last(body);
    if body.ty(next) == Ty::U8 {
        let pipe = pipe(body, next);
        let facts = analyse(&pipe);
        holds(&pipe, &facts, rng);
        *seen.entry(facts.states[0].class.name()).or_default() += 1;
    }
}

/// Tries out all bodies of one instruction, one in `some` of those of two, and `three` of three.
fn try_out(some: usize, three: usize) -> Seen {
    let mut rng = Xorshift::new(77);
    let mut seen = Seen::new();
    each(&leaves(), &[], |op, ty| {
        let one = with(&leaves(), op, ty);
        look(&one, &mut rng, &mut seen);
        each(&one, &[last(&one)], |op, ty| {
            if rng.below(some) == 0 {
                look(&with(&one, op, ty), &mut rng, &mut seen);
            }
        });
    });
    // Of three instructions, some of those whose first two are as random.
    for _ in 0..three {
        let mut body = leaves();
        for at in 0..3 {
            let mut all = Vec::new();
            each(&body, &[last(&body)][..at.min(1)], |op, ty| all.push((op, ty)));
            let (op, ty) = all[rng.below(all.len())];
            body.push(op, ty);
        }
        look(&body, &mut rng, &mut seen);
    }
    seen
}

#[test]
fn what_is_claimed_of_small_bodies_holds() {
    let seen = try_out(SOME, 15_000);
    for (class, least) in [
        ("invariant", 100),
        ("positional", 1000),
        ("reduction", 5000),
        ("delay", 1000),
        ("linear", 60),
        ("serial", 1000),
    ] {
        assert!(seen.get(class).is_some_and(|count| *count >= least), "{class}: {seen:?}");
    }
}

/// All of two instructions, and a million of three: half a minute of processor time with the little
/// optimisation that tests have.
#[test]
#[ignore = "minutes; see CONTRIBUTING.md"]
fn what_is_claimed_of_all_small_bodies_holds() {
    let seen = try_out(1, 1_000_000);
    println!("{} bodies: {seen:?}", seen.values().sum::<usize>());
    assert!(seen.values().sum::<usize>() > 1_000_000, "{seen:?}");
}

/// All of three instructions, on as many threads as `SMALL_BODIES_THREADS` says (1 if it says nothing).
#[test]
#[ignore = "hours; see CONTRIBUTING.md"]
fn what_is_claimed_of_every_body_of_three_instructions_holds() {
    let threads =
        std::env::var("SMALL_BODIES_THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1usize);
    let mut ones = Vec::new();
    each(&leaves(), &[], |op, ty| ones.push(with(&leaves(), op, ty)));
    let turn = AtomicUsize::new(0);
    let all = Mutex::new(Seen::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut seen = Seen::new();
                loop {
                    let at = turn.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = ones.get(at) else { break };
                    each_of_three(one, |body| look(body, &mut Xorshift::new(77), &mut seen));
                    println!("{} of {}: {} by this thread", at + 1, ones.len(), seen.values().sum::<usize>());
                }
                let mut all = all.lock().unwrap();
                seen.into_iter().for_each(|(class, count)| *all.entry(class).or_default() += count);
            });
        }
    });
    let all = all.into_inner().unwrap();
    println!("{} bodies: {all:?}", all.values().sum::<usize>());
    assert!(all.values().sum::<usize>() > 100_000_000, "{all:?}");
}
