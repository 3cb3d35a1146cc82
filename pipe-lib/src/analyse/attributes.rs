//! Declared attributes: proved by the analysis, or refuted by a counterexample.
//!
//! The paper let the programmer assert that a pipe is commutative or leaves its input alone. Here the
//! compiler infers both; a declaration is a claim that is held against the proof. A claim without proof is an
//! error even when no counterexample was found, since nothing may rely on it.

use super::class::Class;
use super::prove::analyse;
use crate::ir::{BinaryOp, Op, Pipe, StateInit, Value};
use std::fmt;

/// An attribute that a pipe declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attribute {
    /// The words may come in any order.
    Commutative,
    /// The stream is passed on unchanged.
    Nomod,
}

impl Attribute {
    /// The word in the language.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Attribute::Commutative => "commutative",
            Attribute::Nomod => "nomod",
        }
    }
}

/// Why a declared attribute does not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refuted {
    /// An input for which it does not hold.
    Counterexample(Counterexample),
    /// No input was found, but no proof either: why, as a phrase.
    Unproved(String),
}

/// An input for which a declared attribute does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counterexample {
    /// Values of the parameters.
    pub(crate) params: Vec<u64>,
    /// Words of a stream from its start. For a pipe that is said to be commutative, swapping the last two
    /// changes the result; one that is said to modify nothing writes something else than these.
    pub(crate) words: Vec<u64>,
    /// What happens, as a sentence without full stop.
    pub(crate) text: String,
}

impl fmt::Display for Refuted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refuted::Counterexample(example) => f.write_str(&example.text),
            Refuted::Unproved(why) => write!(f, "no counterexample was found, but there is no proof: {why}"),
        }
    }
}

/// Instructions that the searches for counterexamples may run for all pipes of one file; an instruction with
/// a loop inside counts as many. Bounds the time that a hostile program takes to some ten milliseconds.
pub(crate) const SEARCH: u64 = 1 << 18;

/// The declared attributes of a pipe that do not hold. `budget` is how many instructions the search for
/// counterexamples may still evaluate; it begins with [`SEARCH`].
pub(crate) fn check_declared(pipe: &Pipe, budget: &mut u64) -> Vec<(Attribute, Refuted)> {
    if !pipe.declared.commutative && !pipe.declared.nomod {
        return Vec::new();
    }
    let facts = analyse(pipe);
    let mut refuted = Vec::new();
    if pipe.declared.commutative && !facts.commutative() {
        let why = || {
            let state = facts
                .states
                .iter()
                .zip(&pipe.states)
                .find(|(facts, _)| !matches!(facts.class, Class::Invariant | Class::Reduction { .. }));
            match state {
                Some((facts, state)) => format!("state `{}` is {}", state.name, facts.class),
                None => "the output depends on the place in the stream".to_string(),
            }
        };
        let example = search(pipe, budget, order_matters).map(Refuted::Counterexample);
        refuted.push((Attribute::Commutative, example.unwrap_or_else(|| Refuted::Unproved(why()))));
    }
    if pipe.declared.nomod && !facts.nomod() {
        let example = search(pipe, budget, word_changes).map(Refuted::Counterexample);
        let why = || "the word written is not the word read, as far as can be seen".to_string();
        refuted.push((Attribute::Nomod, example.unwrap_or_else(|| Refuted::Unproved(why()))));
    }
    refuted
}

/// Trials before a search is given up.
const TRIALS: usize = 256;

/// Words that show it, and how, as a sentence.
type Found = (Vec<u64>, String);

/// Looks for an input on which `found` has something to say; deterministic.
fn search(
    pipe: &Pipe,
    budget: &mut u64,
    found: fn(&Machine<'_>, &mut Random) -> Option<Found>,
) -> Option<Counterexample> {
    // Inputs are tried in numbers of 64 bits.
    if pipe.is_wide() {
        return None;
    }
    let mut random = Random::new(pipe);
    let cost: u64 = pipe.body.insts.iter().map(|inst| cost(&inst.op)).sum();
    (0..TRIALS).find_map(|trial| {
        // Six words at most; the first trial is free.
        if trial > 0 {
            *budget = budget.checked_sub(6 * cost)?;
        }
        let params = pipe.params.iter().map(|param| match param.default {
            Some(default) if trial % 2 == 0 => default,
            _ => random.value(param.ty.mask()),
        });
        let params: Vec<u64> = params.collect();
        let given = (!params.is_empty()).then(|| {
            let each = |(param, value): (&crate::ir::Param, &u64)| format!("{} = {value:#x}", param.name);
            format!(" (with {})", pipe.params.iter().zip(&params).map(each).collect::<Vec<_>>().join(", "))
        });
        let machine = Machine { pipe, params: params.clone() };
        let (words, text) = found(&machine, &mut random)?;
        Some(Counterexample { params, words, text: text + &given.unwrap_or_default() })
    })
}

/// What evaluating an instruction costs.
const fn cost(op: &Op) -> u64 {
    match op {
        Op::Binary(BinaryOp::Clmul | BinaryOp::Clmulh, ..) | Op::Crc(..) => 64,
        Op::Modular(..) => 16,
        _ => 1,
    }
}

fn word_changes(machine: &Machine<'_>, random: &mut Random) -> Option<Found> {
    let pipe = machine.pipe;
    let mut states = machine.initial();
    let mut words = Vec::new();
    for at in 0..3 {
        let word = random.value(pipe.input.ty.mask());
        words.push(word);
        let (mut read, mut written) = ([0u8; 8], [0u8; 8]);
        let size = pipe.word_bytes();
        pipe.input.write(u128::from(word), &mut read[..size]);
        let out = machine.step(&mut states, word, at * size as u64)?;
        pipe.output.write(u128::from(out), &mut written[..size]);
        if read != written {
            let text = format!("the word {} becomes {}", hex(&read[..size]), hex(&written[..size]));
            return Some((words, text));
        }
    }
    None
}

fn order_matters(machine: &Machine<'_>, random: &mut Random) -> Option<Found> {
    let pipe = machine.pipe;
    let size = pipe.word_bytes() as u64;
    // Some states show their memory only after a word.
    let before: Vec<u64> = (0..random.next() % 2).map(|_| random.value(pipe.input.ty.mask())).collect();
    let (x, y) = (random.value(pipe.input.ty.mask()), random.value(pipe.input.ty.mask()));
    let run = |first: u64, second: u64| {
        let mut states = machine.initial();
        let mut pos = 0;
        let mut step = |word: u64| {
            let out = machine.step(&mut states, word, pos);
            pos += size;
            out
        };
        before.iter().for_each(|word| {
            step(*word);
        });
        let outs = [step(first), step(second)];
        (states, outs)
    };
    let (one, outs) = run(x, y);
    let (other, [out_y, out_x]) = run(y, x);
    let after = before.first().map(|word| format!(" (after {word:#x})")).unwrap_or_default();
    let words = format!("the words {x:#x}, {y:#x}{after}");
    let input: Vec<u64> = before.iter().copied().chain([x, y]).collect();
    if let Some(at) = (0..one.len()).find(|&at| one[at] != other[at]) {
        let name = &pipe.states[at].name;
        let text =
            format!("{words} leave `{name}` at {:#x}, in the other order at {:#x}", one[at], other[at]);
        return Some((input, text));
    }
    if outs != [out_x, out_y] {
        let show = |out: Option<u64>| out.map_or("nothing".to_string(), |out| format!("{out:#x}"));
        let (a, b) = (show(outs[0]), show(outs[1]));
        let (c, d) = (show(out_x), show(out_y));
        return Some((input, format!("{words} become {a}, {b}; in the other order they become {c}, {d}")));
    }
    None
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x\"{}\"", digits.join(" "))
}

/// Runs a body word by word.
struct Machine<'a> {
    pipe: &'a Pipe,
    params: Vec<u64>,
}

impl Machine<'_> {
    fn initial(&self) -> Vec<u64> {
        let init = |init: &StateInit| match *init {
            StateInit::Const(value) => value,
            StateInit::Param(id) => self.params.get(id.0 as usize).copied().unwrap_or(0),
        };
        self.pipe.states.iter().map(|state| init(&state.init)).collect()
    }

    /// One word: the states move on; the word written, if there is an `out`.
    fn step(&self, states: &mut [u64], word: u64, pos: u64) -> Option<u64> {
        let values = self.pipe.body.evaluate(&self.pipe.tables, |leaf| match leaf {
            Op::In => word,
            Op::Pos => pos,
            Op::State(id) => states[id.0 as usize],
            Op::Param(id) => self.params.get(id.0 as usize).copied().unwrap_or(0),
            _ => 0,
        });
        let get = |value: Value| values[value.0 as usize];
        for (state, next) in states.iter_mut().zip(&self.pipe.next) {
            *state = get(*next);
        }
        self.pipe.out.map(get)
    }
}

/// A small deterministic generator (SplitMix64): counterexamples are the same on every run.
struct Random {
    seed: u64,
    /// Literals of the program: what it asks for by name is seldom met by chance.
    literals: Vec<u64>,
}

impl Random {
    fn new(pipe: &Pipe) -> Random {
        let literals = pipe.body.iter().filter_map(|(value, _)| pipe.body.literal(value)).take(64).collect();
        Random { seed: 0x9e37_79b9_7f4a_7c15, literals }
    }

    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A value of at most `mask`: often a small or a large one, or one near a literal of the program.
    fn value(&mut self, mask: u64) -> u64 {
        let z = self.next();
        match z % 8 {
            0 | 1 => ((z >> 32) % 4) & mask,
            2 | 3 => mask - (((z >> 32) % 4) & mask),
            4 if !self.literals.is_empty() => {
                let near = (z >> 32) % 3;
                self.literals[(z >> 3) as usize % self.literals.len()].wrapping_add(near).wrapping_sub(1)
                    & mask
            }
            _ => (z >> 3) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Attribute, Counterexample, Refuted, SEARCH, check_declared};
    use crate::Library;
    use crate::backend::testing::{initial, oracle};
    use crate::ir::{Declared, Pipe};

    fn declared(text: &str) -> Result<(), String> {
        Library::standard().load("test.pipe", text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_holds_is_proved() {
        declared("pipe p : u16be commutative nomod tail zero { state s: u16; in x; addc s, s, x; export s }")
            .unwrap();
        declared("pipe p : u8 nomod { in x; out x }").unwrap();
        declared("pipe p : u8 commutative { in x; not y, x; out y }").unwrap();
    }

    /// The counterexample to the one attribute that the pipe declares.
    fn refuted(text: &str) -> (Pipe, Attribute, Counterexample) {
        // Loading would refuse it.
        let bare = text.replace("commutative", "").replace("nomod", "");
        let mut library = Library::standard();
        library.load("test.pipe", &bare).unwrap();
        let mut pipe = Pipe::clone(&library.pipeline("p").unwrap().composition().stages[0].pipe);
        pipe.declared = Declared { commutative: text.contains("commutative"), nomod: text.contains("nomod") };
        match &check_declared(&pipe, &mut SEARCH.clone())[..] {
            [(attribute, Refuted::Counterexample(example))] => (pipe, *attribute, example.clone()),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Runs the words through the oracle: the bytes written, and the states after them.
    fn replay(pipe: &Pipe, words: &[u64]) -> (Vec<u8>, Vec<u8>, Vec<u64>) {
        let size = pipe.word_bytes();
        let mut bytes = vec![0; size * words.len()];
        words
            .iter()
            .zip(bytes.chunks_mut(size))
            .for_each(|(word, bytes)| pipe.input.write((*word).into(), bytes));
        let read = bytes.clone();
        let mut states = initial(&[pipe]);
        oracle(&[pipe], &mut states, 0, &mut bytes);
        (read, bytes, states)
    }

    #[test]
    fn what_does_not_hold_is_refuted_by_an_example_that_the_oracle_confirms() {
        for text in [
            "pipe p : u8 commutative { state s: u8; in x; sub s, x, s; export s }",
            "pipe p : u8 commutative { state s: u8; in x; add s, s, x; out s }",
            "pipe p : u8 commutative { state s: u8; in x; mov s, x; export s }",
            "pipe p : u16le commutative { state s: u64; in x; zext w, x; pos p; mul w, w, p; add s, s, w; export s }",
            "pipe p : u8 commutative { state c: u32; in x; crc32c c, c, x; export c }",
            // The order of the first two words does not matter.
            "pipe p : u8 commutative { state n: u8; state s: u8; in x; ltu c, n, 2; add n, n, 1; sel t, c, s, x; mov s, t; export s }",
            "pipe p : u8 nomod { in x; xor y, x, 1; out y }",
            "pipe p : u16be -> u16le nomod { in x; out x }",
            "pipe p : u8 nomod { state s: u8; in x; xor y, x, s; mov s, x; out y }",
            // One word of four billion.
            "pipe p : u32le nomod { in x; eq c, x, 0x12345678; zext y, c; xor y, y, x; out y }",
        ] {
            let (pipe, attribute, example) = refuted(text);
            let (read, written, states) = replay(&pipe, &example.words);
            match attribute {
                Attribute::Nomod => assert_ne!(read, written, "{text}: {example:?}"),
                Attribute::Commutative => {
                    let mut words = example.words.clone();
                    let last = words.len() - 1;
                    words.swap(last - 1, last);
                    let (_, mut other, other_states) = replay(&pipe, &words);
                    let size = pipe.word_bytes();
                    let (one, two) = (size * (last - 1), size * last);
                    (0..size).for_each(|byte| other.swap(one + byte, two + byte));
                    assert!(states != other_states || written != other, "{text}: {example:?}");
                }
            }
        }
    }

    #[test]
    fn a_search_runs_a_bounded_number_of_instructions() {
        // Many expensive instructions, and nothing to be found.
        let mut body = "pipe p : u64le nomod { in x; mov y, x\n".to_owned();
        body += &"clmulh y, y, x\n".repeat(3000);
        body += "and z, x, y; or z, z, x; out z }";
        let error = declared(&body).unwrap_err();
        assert!(error.contains("no counterexample was found"), "{error}");
    }

    #[test]
    fn diagnostics_show_the_example() {
        let error =
            declared("pipe p : u8 commutative { state s: u8; in x; sub s, x, s; export s }").unwrap_err();
        assert!(error.contains("E0901") && error.contains("leave `s` at"), "{error}");
        let error = declared("pipe p : u8 nomod { in x; xor y, x, 1; out y }").unwrap_err();
        assert!(error.contains("E0901") && error.contains("becomes"), "{error}");
    }
}
