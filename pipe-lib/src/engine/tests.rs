//! Which transfers the driver runs as big ones.

use super::{Direct, Engine};
use crate::backend::PassCode;
use crate::{Backend, CompileOptions, Library};
use std::sync::{Arc, Mutex};

/// Lengths of the calls, and whether they were for a big transfer.
type Calls = Arc<Mutex<Vec<(usize, bool)>>>;

/// Code that takes down how it is called, and does nothing else: for pipelines that only look at the stream.
struct Recorder(Calls);

impl PassCode for Recorder {
    unsafe fn run(&self, _: *mut u64, _: u64, _: *const u8, _: *mut u8, len: usize) {
        self.0.lock().unwrap().push((len, false));
    }

    unsafe fn run_streaming(&self, _: *mut u64, _: u64, _: *const u8, _: *mut u8, len: usize) {
        self.0.lock().unwrap().push((len, true));
    }
}

/// An engine for which transfers are big from 10,000 bytes on, and what its code will have been asked for.
fn recorded(pipeline: &str, separate_passes: bool) -> (Engine, Calls) {
    let mut library = Library::standard();
    library.load("test.pipe", "layout device { data 100 gap 28 }").unwrap();
    let composition = Arc::new(library.pipeline(pipeline).unwrap().composition().clone());
    let options = CompileOptions { separate_passes, ..Backend::Interp.into() };
    let mut engine = Engine::compile(composition, &options).unwrap();
    let program = Arc::get_mut(&mut engine.program).unwrap();
    let calls = Calls::default();
    for pass in &mut program.passes {
        pass.code = Box::new(Recorder(Arc::clone(&calls)));
    }
    (program.streaming_from, program.direct) = (10_000, Direct::none());
    (engine, calls)
}

fn taken(calls: &Calls) -> Vec<(usize, bool)> {
    let mut calls = std::mem::take(&mut *calls.lock().unwrap());
    calls.sort_unstable();
    calls
}

#[test]
fn a_transfer_is_big_or_not_as_a_whole() {
    let (src, mut dst) = (vec![1; 10_000], vec![0; 10_000]);
    let (engine, calls) = recorded("inet_cksum", false);
    engine.run(&src, &mut dst).unwrap();
    assert_eq!(taken(&calls), [(10_000, true)]);
    engine.run(&src[1..], &mut dst).unwrap();
    assert_eq!(taken(&calls), [(9_999, false)]);
    // In parts for several threads, each of them far below the length.
    engine.prepared().run_parts(&src, &mut dst, 2, 1).unwrap();
    assert_eq!(taken(&calls), [(5_000, true), (5_000, true)]);
    engine.prepared().run_parts(&src[2..], &mut dst, 2, 1).unwrap();
    assert!(taken(&calls).iter().all(|(_, big)| !big));
    // From and to pieces.
    let (one, two) = dst.split_at_mut(4_000);
    engine.run_vectored(&[&src[..3_000], &src[3_000..]], &mut [one, two]).unwrap();
    assert_eq!(taken(&calls), [(1_000, true), (3_000, true), (6_000, true)]);
}

#[test]
fn windows_of_a_big_transfer_are_parts_of_it() {
    let (src, mut dst) = (vec![1; 10_000], vec![0; 10_000]);
    let (engine, calls) = recorded("inet_cksum per 4000", false);
    engine.run(&src, &mut dst).unwrap();
    assert_eq!(taken(&calls), [(2_000, true), (4_000, true), (4_000, true)]);
    engine.run(&src[..8_000], &mut dst).unwrap();
    assert_eq!(taken(&calls), [(4_000, false), (4_000, false)]);
}

#[test]
fn what_stays_in_the_first_level_cache_is_not_written_around_it() {
    let (src, mut dst) = (vec![1; 20_000], vec![0; 80_000]);
    // Several passes meet in blocks; a device's buffer is filled from blocks.
    for pipeline in ["fnv1a64 | crc32 | inet_cksum", "inet_cksum -> device"] {
        let (engine, calls) = recorded(pipeline, true);
        engine.run(&src, &mut dst).unwrap();
        let calls = taken(&calls);
        assert!(calls.len() > 4 && calls.iter().all(|(_, big)| !big), "{pipeline}: {calls:?}");
    }
}
