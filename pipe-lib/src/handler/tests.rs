use super::{Handler, Verdict};
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
        let expected = Verdict::ALL.get(usize::from(first)).copied().unwrap_or(Verdict::Pass);
        assert_eq!(answering.judge(&[first, 7], &mut values), expected);
        let without = if expected == Verdict::Answer { Verdict::Pass } else { expected };
        assert_eq!(plain.judge(&[first, 7], &mut values), without, "no answer to give");
    }
    let mut answer = Vec::new();
    answering.judge(&[3, 7], &mut values);
    answering.write_answer(&[3, 7], &values, &mut answer);
    assert_eq!(answer, [0xee, 7]);
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
