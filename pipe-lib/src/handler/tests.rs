use super::{Handler, Verdict, XdpProgram};
use crate::Library;

fn handler(text: &str, pipeline: &str) -> Result<Handler, String> {
    let mut library = Library::standard();
    library.load("test.pipe", text).map_err(|error| error.to_string())?;
    let pipeline = library.pipeline(pipeline).map_err(|error| error.to_string())?;
    Handler::new(pipeline.composition()).map_err(|error| error.to_string())
}

/// Only what a result depends on is left: the word at one place, not the 63 others, nor the places.
#[test]
fn a_word_by_its_place_is_one_load() {
    let text = "pipe p : u16be tail zero { state kind: u16\n in x\n pos p\n eq at, p, 12\n \
                sel kind, at, x, kind\n finish { eq.u16 arp, kind, 0x0806\n zext.u8 verdict, arp\n export verdict } }";
    let handler = handler(text, "p").unwrap();
    assert_eq!(handler.prefix_bytes(), 14);
    let shown = handler.to_string();
    assert_eq!(shown.matches("load").count(), 1, "{shown}");
    assert!(handler.line().steps.len() <= 9, "{shown}");
}

#[test]
fn a_frame_that_is_shorter_ends_in_zeros() {
    let text = "pipe p : u32be tail zero { state n: u32\n in x\n pos p\n eq at, p, 4\n sel n, at, x, n\n \
                export verdict = mov.u8 1\n export n }";
    let handler = handler(text, "p").unwrap();
    let mut values = Vec::new();
    for (frame, n) in [(&[1, 2, 3, 4, 5, 6][..], 0x0506_0000), (&[], 0), (&[9; 200], 0x0909_0909)] {
        assert_eq!(handler.judge(frame, &mut values), Verdict::Drop);
        assert_eq!(handler.counted(&values).collect::<Vec<_>>(), [n], "{frame:?}");
    }
}

#[test]
fn verdicts_that_mean_nothing_pass() {
    let text = "pipe p : u8 { state v: u8\n in x\n pos p\n eq at, p, 0\n sel v, at, x, v\n export verdict = mov v }\n\
                frame reply { put x\"ee\" data }";
    let (plain, answering) = (handler(text, "p").unwrap(), handler(text, "p -> reply").unwrap());
    let mut values = Vec::new();
    for first in 0..=255u8 {
        let known = Verdict::ALL.get(usize::from(first)).filter(|verdict| **verdict != Verdict::Steer);
        let expected = known.copied().unwrap_or(Verdict::Pass);
        assert_eq!(answering.judge(&[first, 7], &mut values), expected);
        let without = if expected == Verdict::Answer { Verdict::Pass } else { expected };
        assert_eq!(plain.judge(&[first, 7], &mut values), without, "no answer to give");
    }
    let mut answer = Vec::new();
    answering.judge(&[3, 7], &mut values);
    answering.write_answer(&[3, 7], &values, &mut answer);
    assert_eq!(answer, [0xee, 7]);
}

/// Who names a core may steer to it, and answers nothing by that.
#[test]
fn a_core_is_what_a_frame_is_steered_to() {
    let text = "pipe p : u8 { state v: u8\n state c: u8\n in x\n pos p\n eq at, p, 0\n sel v, at, x, v\n \
                eq next, p, 1\n sel c, next, x, c\n export verdict = mov v\n export core = mov c }\n\
                frame reply { put x\"ee\" data }";
    let (plain, answering) = (handler(text, "p").unwrap(), handler(text, "p -> reply").unwrap());
    assert_eq!(plain.counters().count(), 0);
    let mut values = Vec::new();
    for first in 0..=255u8 {
        let expected = Verdict::ALL.get(usize::from(first)).copied().unwrap_or(Verdict::Pass);
        assert_eq!(answering.judge(&[first, 200], &mut values), expected);
        let without = if expected == Verdict::Answer { Verdict::Pass } else { expected };
        assert_eq!(plain.judge(&[first, 200], &mut values), without);
        assert_eq!(plain.core(&values), 200);
    }
    let refused = XdpProgram::new(&[&plain]).unwrap_err().to_string();
    assert!(refused.contains("run it in the stack"), "{refused}");
    let refused = XdpProgram::to_sockets(&[&answering], true).unwrap_err().to_string();
    assert!(refused.contains("frames in one piece"), "{refused}");
}

/// What the machine code makes of values at the edges, against the steps one by one.
#[test]
fn machine_code_gives_what_the_steps_give() {
    let unary = ["neg", "not", "bswap"].map(|op| format!("{op} r, a"));
    let binary =
        ["add", "sub", "mul", "and", "or", "xor", "shl", "shr", "sar", "rotl", "rotr", "min", "max", "addc"]
            .into_iter()
            .chain(["adds", "subs"])
            .map(|op| format!("{op} r, a, b"));
    let compare = ["eq", "ne", "ltu", "leu", "lts", "les"].map(|op| format!("{op} c, a, b\n sel r, c, a, b"));
    let constants = [0u64, 1, 7, 0x7f, 0x80, 0xff, 0x8000_0000, u64::MAX];
    let immediate = constants.map(|value| format!("add k, a, {value}\n xor r, k, b"));
    let mut compiled = 0;
    for line in unary.into_iter().chain(binary).chain(compare).chain(immediate) {
        for (gauge, bytes) in
            [("u8", 1u32), ("u16be", 2), ("u16le", 2), ("u32be", 4), ("u32le", 4), ("u64be", 8), ("u64le", 8)]
        {
            let ty = gauge.trim_end_matches("be").trim_end_matches("le");
            let text = format!(
                "pipe p : {gauge} tail zero {{ state a: {ty}\n state b: {ty}\n in x\n pos p\n eq f, p, 0\n sel a, f, x, a\n \
                 eq s, p, {bytes}\n sel b, s, x, b\n finish {{ {line}\n export verdict = mov.u8 1\n export r }} }}"
            );
            let Ok(handler) = handler(&text, "p") else { continue };
            compiled += usize::from(handler.is_compiled());
            let steps = handler.clone().interpreted();
            assert!(!steps.is_compiled());
            let (mut values, mut expected) = (Vec::new(), Vec::new());
            for first in constants {
                for second in constants {
                    let frame = [first.to_le_bytes(), second.to_be_bytes(), first.to_be_bytes()].concat();
                    for at in 0..8 {
                        let frame = &frame[at..];
                        assert_eq!(handler.judge(frame, &mut values), steps.judge(frame, &mut expected));
                        let (got, wanted) = (handler.counted(&values), steps.counted(&expected));
                        assert!(got.eq(wanted), "{text}: {frame:02x?}");
                    }
                }
            }
        }
    }
    assert!(compiled > 150 || cfg!(not(native)), "{compiled}");
}

/// Fields that keep, that are numbers, and a length shorter and longer than the frame.
#[test]
fn an_answer_is_as_long_as_it_says() {
    let text = "pipe p : u8 { state length: u16\n in x\n pos p\n eq at, p, 1\n zext.u16 y, x\n \
                sel length, at, y, length\n export verdict = mov.u8 3\n export length }\n\
                frame reply { gap 2 put u16be 8 + 1 put \"ab\" data }";
    let handler = handler(text, "p -> reply").unwrap();
    let (mut values, mut answer) = (Vec::new(), Vec::new());
    let mut reply = |frame: &[u8]| {
        assert_eq!(handler.judge(frame, &mut values), Verdict::Answer);
        handler.write_answer(frame, &values, &mut answer);
        answer.clone()
    };
    assert_eq!(reply(&[9, 8, 7, 6, 5, 4, 3, 2, 1]), [9, 8, 0, 9, b'a', b'b', 3, 2]);
    assert_eq!(reply(&[9, 3, 7]), [9, 3, 0], "cut off");
    assert_eq!(reply(&[9, 200]), [9, 200, 0, 9, b'a', b'b'], "no more than there is");
}

#[test]
fn what_is_no_handler_is_refused_with_what_to_write() {
    for (text, pipeline, why) in [
        ("", "inet_cksum", "no export `verdict`"),
        ("", "xor8(key = 1)", "writes words"),
        ("", "inet_cksum per 4", "leave out `per`"),
        ("pipe p : u8 { in _x\n export verdict = mov.u8 0 }", "p as a | p as b", "a second export `verdict`"),
        (
            "pipe v : u8 { in _x\n export verdict = mov.u8 0 }\npipe p : u8 { in _x\n export core = mov.u8 0 }",
            "v | p as a | p as b",
            "a second export `core`",
        ),
        (
            "table t: u8 = \"ab\"\npipe p : u8 { state s: u8\n in x\n lookup s, t, x\n export verdict = mov s }",
            "p",
            "looks into a table",
        ),
        ("pipe p : u128le { in _x\n export verdict = mov.u8 0 }", "p", "narrower words"),
        (
            "pipe p : u8 { in _x\n export verdict = mov.u8 0 }\nframe f { data put \"a\" }",
            "p -> f",
            "before a `data`",
        ),
        (
            "pipe p : u8 { in _x\n export verdict = mov.u8 0 }\nframe f { put u8 index data }",
            "p -> f",
            "`index`",
        ),
    ] {
        let error = handler(text, pipeline).unwrap_err();
        assert!(error.contains(why), "{pipeline}: {error}");
    }
}
