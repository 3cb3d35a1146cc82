//! Code for other programs: what is refused of compositions that no text says, and by builds without our own
//! emitter.

use pipe_lib::emit::{EmitError, EmitOptions, emit};
use pipe_lib::{Composer, Features, Library};
use std::num::NonZeroU64;

/// What is said of a pipe in windows that `Composer` takes.
fn refusal(text: &str, window: u64) -> Option<String> {
    let mut library = Library::standard();
    library.load("mine.pipe", text).unwrap();
    let pipe = library.pipe("mine").unwrap();
    let composer = Composer::new().stage(pipe, None, &[], NonZeroU64::new(window)).unwrap();
    match emit(&composer.finish().unwrap(), &EmitOptions::new("x").unwrap().machines(Vec::new())) {
        Ok(_) => None,
        Err(EmitError::Cannot(what)) => Some(what),
        Err(error) => panic!("{error}"),
    }
}

/// The function checks a length once, and every full window would leave a byte over.
#[test]
fn windows_that_cut_words_and_reject_what_is_left() {
    let rejecting = "pipe mine : u16be tail reject { in x; not y, x; out y }";
    let said = refusal(rejecting, 199).unwrap();
    assert!(said.contains("`mine` rejects what is left of each of its windows of 199 bytes"), "{said}");
    assert!(said.contains("a multiple of 2"), "{said}");
    assert_eq!(refusal(rejecting, 198), None);
    assert_eq!(refusal(&rejecting.replace("reject", "pass"), 199), None);
}

/// The sum of a place within a window and a length may be as much as twice the window.
#[test]
fn windows_that_take_64_bits() {
    let pipe = "pipe mine : u8 { in x; not y, x; out y }";
    for window in [1 << 63, u64::MAX] {
        let said = refusal(pipe, window).unwrap();
        assert!(said.contains("windows of 2^63 bytes or more"), "{said}");
    }
    assert_eq!(refusal(pipe, (1 << 63) - 1), None);
}

/// They are there or refused, never left out without a word.
#[test]
fn sets_of_instructions_without_our_own_emitter() {
    let pipeline = Library::standard().pipeline("inet_cksum").unwrap();
    let options = EmitOptions::new("x").unwrap().machines(vec![Features::of_machine("avx2").unwrap()]);
    let made = emit(pipeline.composition(), &options).map(|emitted| emitted.codes().to_vec());
    if cfg!(native) {
        assert_eq!(made.unwrap()[0], "avx2: native");
    } else {
        assert!(matches!(made, Err(EmitError::Cannot(_))), "{made:?}");
    }
}
