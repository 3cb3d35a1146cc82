//! Sums that stop at a limit: many spellings, what only looks like one, and what the class claims, tried out.

use super::{facts, run};
use crate::analyse::{Class, PipeFacts, Reduce, analyse, assume};
use crate::backend::testing::Rng;
use crate::ir::Pipe;
use crate::options::Backend;
use crate::options::CompileOptions;
use crate::testing::Judge;
use crate::{Library, Pipeline};

/// The pipe with what holds of it under assumptions, and the bound of its first state (0 if none is needed).
fn assumed(body: &str) -> (Pipe, PipeFacts, u64) {
    let (facts, pipe) = facts(body);
    match assume(&pipe, &facts) {
        Some(found) => {
            let bound = found.below.iter().find(|(state, _)| state.0 == 0).map_or(0, |(_, bound)| *bound);
            (pipe, found.facts, bound)
        }
        None => (pipe, facts, 0),
    }
}

/// `next = min(s + operand, limit)`, for states up to the limit and words of all kinds.
#[track_caller]
fn holds(body: &str, limit: u64, bound: u64) {
    let (pipe, facts, found) = assumed(body);
    let Class::Reduction { op: Reduce::Addsat(stop), operand } = facts.states[0].class else {
        panic!("{body}: {}", facts.states[0].class);
    };
    assert_eq!((stop, found), (limit, bound), "{body}");
    let mut rng = Rng::new(limit);
    let states = [0, 1, 2, limit / 2, limit.saturating_sub(300), limit.saturating_sub(2), limit - 1, limit];
    for state in states.into_iter().filter(|state| *state <= limit) {
        for word in [0, 1, 2, 65, 66, 127, 128, 254, 255, 0xfffe, 0xffff, rng.next(), rng.next(), u64::MAX] {
            let word = word & pipe.input.ty.mask();
            let next = run(&pipe.body, &pipe.tables, &[state], word, 0)[pipe.next[0].0 as usize];
            let term = run(&facts.body, &facts.tables, &[state], word, 0)[operand.0 as usize];
            assert_eq!(
                Reduce::Addsat(stop).apply(pipe.states[0].ty, state, term),
                next,
                "{body}: {state} and {word}"
            );
        }
    }
}

/// A counter of the words that are 65, up to `limit`, of type `ty`: all are one class.
fn counters(ty: &str, limit: u64) -> Vec<String> {
    let steps = [
        "ltu r, s, LIMIT; and r, r, c; zext b, r; add s, s, b",
        "leu r, LIMIT, s; not r, r; and r, r, c; add t, s, 1; sel s, r, t, s",
        "eq f, s, LIMIT; add t, s, 1; sel t, f, s, t; sel s, c, t, s",
        "ne f, s, LIMIT; add t, s, 1; sel t, f, t, LIMIT; sel s, c, t, s",
        "eq f, s, LIMIT; not n, c; or f, f, n; add t, s, 1; sel s, f, s, t",
        "zext b, c; sub r, LIMIT, s; min b, b, r; add s, s, b",
        "zext b, c; sub r, LIMIT, s; ltu k, r, b; sel b, k, r, b; add s, s, b",
        "zext b, c; sub r, LIMIT, s; leu k, b, r; sel b, k, b, r; add s, b, s",
        "sub r, LIMIT, s; zext b, c; leu k, b, r; add t, s, b; sel s, k, t, LIMIT",
        "ltu r, s, LIMIT; sext r, r; zext b, c; and b, b, r; add s, s, b",
        "ltu r, s, LIMIT; zext b, r; sel b, c, b, 0; add s, s, b",
    ];
    // The sum itself has to fit its type where it is compared or cut down.
    let roomy = [
        "zext b, c; add t, s, b; min s, t, LIMIT",
        "zext b, c; add t, s, b; ltu k, t, LIMIT; sel s, k, t, LIMIT",
        "zext b, c; add t, s, b; ltu k, LIMIT, t; sel s, k, LIMIT, t",
        "add t, s, 1; min t, t, LIMIT; sel s, c, t, s",
        "add t, s, 1; leu k, t, LIMIT; and k, k, c; sel s, k, t, s",
    ];
    // Carries, at the type's own limit.
    let carries = [
        "zext b, c; add t, s, b; ltu k, t, s; sel s, k, LIMIT, t",
        "zext b, c; add t, s, b; leu k, s, t; sel s, k, t, LIMIT",
        "zext b, c; add t, s, b; ltu k, t, b; sext m, k; or s, t, m",
        "zext b, c; add t, s, b; ltu k, t, s; zext m, k; neg m, m; or s, m, t",
        "add t, s, 1; eq k, t, 0; sel t, k, s, t; sel s, c, t, s",
        "not r, s; zext b, c; min b, b, r; add s, s, b",
    ];
    let mask = match ty {
        "u8" => 0xff,
        "u16" => 0xffff,
        "u32" => 0xffff_ffff,
        _ => u64::MAX,
    };
    let last: &[&str] = if limit == mask { &carries } else { &roomy };
    (steps.iter().chain(last))
        .map(|step| {
            let step = step.replace("LIMIT", &limit.to_string());
            format!("u8 {{ state s: {ty}; in x; eq c, x, 65; {step}; export s }}")
        })
        .collect()
}

#[test]
fn counters_that_stop() {
    for (ty, limit) in [("u8", 255), ("u8", 200), ("u16", 1), ("u16", 65535), ("u32", 1000), ("u64", 5)] {
        let mask = if ty == "u8" { 255 } else { 65535 };
        let bound = if limit == mask { 0 } else { limit + 1 };
        for body in counters(ty, limit) {
            holds(&body, limit, bound);
        }
    }
}

#[test]
fn sums_that_stop() {
    for (body, limit, bound) in [
        ("u8 { state s: u8; in x; add t, s, x; ltu c, t, x; sel s, c, 255, t; export s }", 255, 0),
        ("u8 { state s: u8; in x; not r, s; min t, x, r; add s, s, t; export s }", 255, 0),
        ("u8 { state s: u16; in x; zext w, x; add t, s, w; min s, t, 1000; export s }", 1000, 1001),
        ("u16be { state s: u16; in x; add t, s, x; ltu c, t, s; sext m, c; or s, t, m; export s }", 65535, 0),
        // In a wider type, and cut down.
        (
            "u16le { state s: u16; in x; zext a, x; zext.u32 b, s; add t, a, b; min t, t, 65535; trunc s, t; export s }",
            65535,
            0,
        ),
        (
            "u8 { state s: u8; in x; zext.u16 a, x; zext b, s; add t, a, b; ltu c, 99, t; trunc n, t; sel s, c, 99, n; export s }",
            99,
            100,
        ),
        // What does not fit is one more than the limit at least.
        (
            "u8 { state s: u16; in x; zext w, x; add t, s, w; leu c, t, 99; sel s, c, t, 100; export s }",
            100,
            101,
        ),
        // Two steps a word, the first of which stops, too; by bytes of a word.
        (
            "u8 { state s: u16; in x; zext w, x; add t, s, w; min t, t, 500; add t, t, 3; min s, t, 500; export s }",
            500,
            501,
        ),
        (
            "u16le { state s: u8; in x; trunc.u8 a, x; shr b, x, 8; trunc.u8 b, b; eq c, a, 65; zext c, c; eq d, b, 65; zext d, d; \
             add t, s, c; ltu k, t, c; sel s, k, 255, t; add t, s, d; ltu k, t, d; sel s, k, 255, t; export s }",
            255,
            0,
        ),
    ] {
        holds(body, limit, bound);
    }
}

#[test]
fn what_does_not_stop_so() {
    for body in [
        // Steps of more than one pass over the limit.
        "u8 { state s: u16; in x; zext w, x; ltu c, s, 100; add t, s, w; sel s, c, t, s; export s }",
        "u8 { state s: u8; in x; eq c, s, 200; add t, s, 2; sel s, c, s, t; export s }",
        // The sum may wrap before it is cut down.
        "u8 { state s: u8; in x; add t, s, x; min s, t, 200; export s }",
        // It starts beyond; it comes back; it stops elsewhere than it is compared with.
        "u8 { state s: u16 = 2000; in x; zext w, x; add t, s, w; min s, t, 1000; export s }",
        "u8 { state s: u16; in x; eq c, s, 100; add t, s, 1; sel s, c, 0, t; export s }",
        "u8 { state s: u16; in x; zext w, x; add t, s, w; ltu c, t, 100; sel s, c, t, 90; export s }",
        // A test of a narrow state that always holds: the sum wraps.
        "u8 { state s: u8; in x; zext.u16 w, s; ltu c, w, 256; add t, s, 1; sel s, c, t, s; xor s, s, 0; eq d, x, 1; sel s, d, s, 7; export s }",
        // Up to one limit, then to a higher one.
        "u8 { state s: u16; in x; zext w, x; add t, s, w; min t, t, 100; add t, t, 9; min s, t, 200; export s }",
    ] {
        let (_, facts, _) = assumed(body);
        let class = &facts.states[0].class;
        let stops = matches!(class, Class::Reduction { op: Reduce::Addsat(_), .. });
        assert!(!stops, "{body}: {class}");
    }
    // No number is beyond the last one.
    let (unbounded, _) = facts(
        "u8 { state s: u64; in x; leu c, s, 0xffffffffffffffff; zext b, c; add s, s, b; ltu d, 0xffffffffffffffff, s; \
         zext e, d; add s, s, e; export s }",
    );
    assert!(!matches!(&unbounded.states[0].class, Class::Reduction { op: Reduce::Addsat(_), .. }));
    // A narrow counter in a wider comparison that always holds wraps.
    let (facts, _) =
        facts("u8 { state s: u8; in x; zext.u16 w, s; ltu c, w, 256; zext b, c; add s, s, b; export s }");
    let class = &facts.states[0].class;
    assert!(!matches!(class, Class::Reduction { op: Reduce::Addsat(_), .. }), "{class}");
}

#[test]
fn several_limits_in_one_pipe() {
    let (pipe, _, _) = assumed(
        "u8 { state a: u16; state b: u16; state c: u8; in x; zext w, x; add t, a, w; min a, t, 300; eq e, x, 7; zext o, e; add t, b, o; min b, t, 20; \
         zext i, e; add t, c, i; ltu k, t, c; sel c, k, 255, t; export a; export b; export c }",
    );
    let found = assume(&pipe, &analyse(&pipe)).unwrap();
    let classes: Vec<String> = found.facts.states.iter().map(|state| state.class.to_string()).collect();
    assert_eq!(classes, ["reduction by addsat 300", "reduction by addsat 20", "reduction by addsat 255"]);
    let below: Vec<u64> = found.below.iter().map(|(_, bound)| *bound).collect();
    assert_eq!(below, [301, 21]);
}

fn pipeline(body: &str) -> Pipeline {
    let mut library = Library::standard();
    library.load("test.pipe", &format!("pipe p : {body}")).unwrap_or_else(|errors| panic!("{errors:?}"));
    library.pipeline("p").unwrap_or_else(|errors| panic!("{errors:?}"))
}

#[test]
fn every_backend_stops_where_it_is_said() {
    let of = |ty: &str, limit: u64| counters(ty, limit).into_iter().map(move |body| (body, limit));
    for (seed, (body, limit)) in of("u8", 200).chain(of("u8", 255)).chain(of("u16", 3)).enumerate() {
        let pipeline = pipeline(&body);
        let judge = Judge::new(pipeline.composition().clone(), &Backend::ALL).unwrap();
        let mut rng = crate::testing::Rng::new(seed as u64);
        for len in [0, 1, 63, 64, 200, 700, 3000] {
            judge.judge_some(&mut rng, len, 4).unwrap_or_else(|failure| panic!("{body}: {failure}"));
        }
        // All of them are 65: the limit is reached.
        let has_native = crate::Features::detected().names().any(|name| name == "avx2");
        for backend in Backend::ALL.into_iter().filter(|backend| *backend != Backend::Native || has_native) {
            let engine = pipeline.compile_with(&CompileOptions::from(backend));
            let engine = engine.unwrap_or_else(|error| panic!("{body}: {error}"));
            let stream = vec![65; 1000];
            let value = engine.run_read_only(&stream).unwrap().value(0);
            assert_eq!(value, limit, "{backend}: {body}");
        }
    }
}
