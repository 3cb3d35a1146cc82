//! No source text of 64 KB, however hostile, takes more than 64 MB or 100 ms to be answered; no pipeline of
//! one more than 128 MB and some allocations an instruction to be compiled.
//!
//! Memory is counted in the suite, exactly; so is the number of allocations, which stands for the work.
//! Processor time is for an optimised build (and a machine that is not too busy: neighbours take a part of
//! each cycle): `cargo test --release -p pipe-lib --test hostile -- --ignored --nocapture`.

use pipe_lib::{CompileOptions, Library, inspect};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Duration;

/// The system's allocator, counting what the current thread does.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + usize::from(bytes > 0)));
    });
}

// SAFETY: all work is the system allocator's; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIZE: usize = 64 << 10;
const MEMORY: isize = 64 << 20;
/// The most that compiling a pipeline takes, however hostile.
const COMPILED_MEMORY: isize = 128 << 20;
const TIME: Duration = Duration::from_millis(100);

/// `head`, and as many pieces as fit before `tail`.
fn fill(head: &str, tail: &str, mut piece: impl FnMut(usize) -> String) -> String {
    let mut text = head.to_string();
    for at in 0.. {
        let next = piece(at);
        if text.len() + next.len() + tail.len() > SIZE {
            break;
        }
        text += &next;
    }
    text + tail
}

fn repeat(piece: &str) -> String {
    fill("", "", |_| piece.to_string())
}

/// A name of 128 bytes that differs from others at its start and its end.
fn long_name(at: usize) -> String {
    format!("n{at:0>6}{}{at:0>6}", "abcdefghijk".repeat(12)).chars().take(122).collect::<String>()
        + &format!("{at:0>6}")
}

/// Straight-line code of about as many bytes: every value depends on the two before.
fn entangled(bytes: usize, ops: &[&str]) -> String {
    let (mut text, mut at) = ("mov v0, x\nmov v1, x\n".to_string(), 2);
    while text.len() < bytes {
        let op = ops[at % ops.len()];
        let _ = writeln!(text, "{op} v{at}, v{}, v{}", at - 1, at - 2);
        at += 1;
    }
    text + &format!("mov last, v{}\n", at - 1)
}

/// States that are made of each other.
fn coupled(states: usize, op: &str) -> String {
    let mut text = String::new();
    for at in 0..states {
        let _ = write!(text, "state s{at}: u64;");
    }
    text += "in x;";
    for at in 0..states {
        let other = (at * 7 + 1) % states;
        let _ = write!(text, "shl t, s{other}, {}; {op} t, t, x; xor s{at}, s{at}, t;", at % 63 + 1);
    }
    text
}

/// What each text is, and the text.
fn sources() -> Vec<(&'static str, String)> {
    let statements = |piece: &str| fill("pipe a : u8 { in x\n", "", |_| piece.to_string());
    let wide_table = "table t: u64 = [0 repeat 65536]";
    let long_arms = |at: usize| format!("ltu c, x, {at}; add a, s{at}, x; sel s{}, c, a, s{at}\n", at + 1);
    vec![
        ("braces", repeat("{")),
        ("lost items", fill("pipe broken( {", "", |_| "pipe a ".to_string())),
        (
            "items and lost ones",
            fill("", "pipe broken( {pipe a pipe a ", |at| ["use\"a\"", "layout a{}"][at % 2].to_string()),
        ),
        ("parentheses", repeat("(")),
        ("brackets", repeat("[")),
        ("nested finish", fill("pipe a : u8 {", "", |_| "finish {".to_string())),
        ("quotes", repeat("\"")),
        ("backslashes", fill("\"", "", |_| "\\".to_string())),
        ("a string without end", fill("use \"", "", |_| "a".to_string())),
        ("hexadecimal without end", fill("table t: u8 = x\"", "", |_| "0f ".to_string())),
        ("slashes", repeat("/")),
        ("a comment without end", fill("//", "", |_| "/* ".to_string())),
        ("one name", repeat("a")),
        ("names", repeat("a ")),
        ("digits", repeat("9")),
        ("numbers", repeat("0xffffffffffffffff_ ")),
        ("minus", repeat("-")),
        ("NULs", repeat("\0")),
        ("control characters", repeat("\u{1}")),
        ("wide characters", repeat("\u{20ac}")),
        ("combining characters", repeat("a\u{301}")),
        ("right to left", repeat("\u{202e}pipe ")),
        ("line ends", repeat("\r\n")),
        ("documentation", repeat("///\n")),
        ("documentation of nothing", fill("pipe a : u8 {\n", "", |_| "/// a\n".to_string())),
        ("pipes without end", repeat("pipe a : u8 {\n")),
        ("pipes of one name", repeat("pipe a:u8{in x;out x}")),
        ("pipes", fill("", "!", |at| format!("pipe p{at}:u8{{in x;out x}}"))),
        ("separators", statements(";\n")),
        ("statements", statements("add y, x, x\n")),
        ("statements without commas", statements("add y x\n")),
        ("statements of unknown names", statements("frob y, x, x\n")),
        ("statements of unknown types", statements("zext.u65 y, x\n")),
        ("states of one name", statements("state s: u8\n")),
        ("exports of one name", statements("export s\n")),
        ("many states", fill("pipe a : u8 { in x\n", "}", |at| format!("state s{at}: u64;"))),
        ("many parameters", fill("pipe a(", "b: u8) : u8 {}", |at| format!("p{at}: u64 = 1, "))),
        ("unknown names", fill("pipe p : u8 { in x0\n", "", |at| format!("add x{}, x{at}, y{at}\n", at + 1))),
        (
            "long names",
            fill("pipe p : u8 { in x\n", "}", |at| match at % 4 {
                0 => format!("add {}, x, {}\n", long_name(at), long_name(at + 1)),
                _ => format!("mov {}, x\n", long_name(at)),
            }),
        ),
        (
            "long names of pipes",
            fill("", "", |at| match at % 4 {
                0 => format!("pipeline q{at} = {}\n", long_name(at)),
                _ => format!("pipe {}:u8{{}}\n", long_name(at)),
            }),
        ),
        (
            "long names of parameters",
            fill("pipe p(k: u8) : u8 {}\n", "", |at| {
                format!("pipeline q{at}({}: u8) = p({})\n", long_name(at), long_name(at + 1))
            }),
        ),
        ("wide tables", repeat(&format!("{wide_table}\n"))),
        ("wide tables of a pipe", fill("pipe a : u8 {", "}", |_| format!("{wide_table};"))),
        ("repetitions", fill("table t: u64 = [", "", |_| "0 repeat 18446744073709551615,".to_string())),
        ("elements", fill("table t: u64 = [", "]", |_| "0,".to_string())),
        ("bars", fill("pipeline p = ", "", |_| "|".to_string())),
        ("stages", fill("pipeline p = ", "copy", |_| "copy|".to_string())),
        ("arrows", fill("pipeline p = ", "", |_| "->".to_string())),
        ("windows", fill("pipeline p = ", "copy", |_| "copy per 1|".to_string())),
        (
            "pipelines that double",
            fill("pipeline p0(k: u8) = xor8(k) as a | xor8(k) as b\n", "", |at| {
                format!("pipeline p{}(k: u8) = p{at}(k) as a | p{at}(k) as b\n", at + 1)
            }),
        ),
        (
            "pipelines one in the other",
            fill("pipeline p0 = copy\n", "", |at| format!("pipeline p{} = p{at}\n", at + 1)),
        ),
        (
            "pipelines that contain themselves",
            fill("", "", |at| format!("pipeline p{at} = p{} | p{at}\n", at + 1)),
        ),
        ("arguments", fill("pipeline p = xor8(", ")", |_| "key = 1,".to_string())),
        ("instances of one name", fill("pipeline p = ", "copy", |_| "copy as a|".to_string())),
        ("big instances", {
            let code = entangled(30 << 10, &["add", "xor"]).replace("mov v1, x", "mov v1, k");
            let head = format!("pipe p(k: u8) : u8 {{ in x\n{code}out last }}\n");
            fill(&head, "test nobody {input \"\" refused}", |at| {
                let stages: Vec<String> = (0..100).map(|k| format!("p({})", (at + k) % 10)).collect();
                format!("test {} {{input \"\" refused}}\n", stages.join("|"))
            })
        }),
        ("long inputs", repeat("test copy{input \"a\" repeat 16777216 output \"\"}!")),
        ("long lists", repeat("test inet_cksum per 1 {input \"\" expect sum = [0 repeat 65536]}\n")),
        ("uses", repeat("use \"x\"\n")),
        ("layouts", repeat("layout l { data 1 gap 1 store 9 }")),
        ("rules of a layout", fill("layout l {", "}", |_| "pad 1 ".to_string())),
        (
            "refuted attributes",
            fill("", "", |at| {
                format!("pipe q{at} : u8 commutative {{ state s: u8; in x; clmul s, s, x; export s }}\n")
            }),
        ),
        ("a long refutation", {
            let ops = ["clmul", "addc", "rotl", "mul", "xor"];
            let code = entangled(60 << 10, &ops);
            format!(
                "pipe q : u64be commutative nomod {{ state s: u64; in x\n{code}mul s, s, last; out s; export s }}"
            )
        }),
        ("selects that share their arms", {
            let head = "pipe q : u8 commutative { state s: u8; in x; mov s0, s\n";
            fill(head, "!mov s, x; export s }", long_arms)
        }),
        ("moduli", {
            let head = "pipe q : u64be commutative { state s: u64; in x; mov t, x\n";
            fill(head, "mulmod s, s, t, t; export s }", |_| {
                "mulmod t, t, x, 0xfffffffffffffff1\n".to_string()
            })
        }),
        (
            "states of each other",
            fill("", "", |at| {
                let op = ["xor", "and", "clmul", "add", "addc", "sub"][at % 6];
                format!("pipe q{at} : u64be commutative nomod {{ {} out s0; export s1 }}\n", coupled(60, op))
            }),
        ),
        (
            "maps of bits",
            fill("", "", |at| {
                let code = "shl t, s, 1;shr u, s, 63;neg u, u;and u, u, 27;xor s, t, u;".repeat(40);
                format!(
                    "pipe q{at} : u64be commutative {{ state s: u64; in x; xor s, s, x; {code} export s }}\n"
                )
            }),
        ),
        (
            "look-ups",
            fill(&format!("{wide_table}\n"), "", |at| {
                let code = "lookup y, t, s; xor s, s, y;".repeat(8);
                format!(
                    "pipe q{at} : u64be commutative nomod {{ state s: u64; in x; xor s, s, x; {code} out s; export s }}\n"
                )
            }),
        ),
        ("positions", {
            let head = "pipe q : u64be nomod { state s: u64; in x; pos p; mov t, p\n";
            fill(head, "xor y, x, s; mov s, t; out y; export s }", |at| {
                format!("add t, t, p; rotl t, t, {}\n", at % 64)
            })
        }),
    ]
}

/// What takes long to compile, or did, each a pipeline of one text.
fn programs() -> Vec<(&'static str, String, String)> {
    let times =
        |count: usize| (0..count).map(|at| format!("p as p{at}")).collect::<Vec<String>>().join(" | ");
    let queue = |states: usize| {
        let declared: String = (0..states).map(|at| format!("state q{at}: u32; ")).collect();
        let moved: String = (1..states).rev().map(|at| format!("mov q{at}, q{}; ", at - 1)).collect();
        let last = states - 1;
        format!(
            "pipe p : u32le {{ state t: u32; {declared} in x; ltu c, q{last}, 1000; sel d, c, q{last}, t
                ltu e, d, 9000; sel d, e, x, d; mul t, t, d; {moved} mov q0, x; export t }}"
        )
    };
    let swapped = |ops: usize| {
        let code: String = (0..ops).map(|at| format!("mul x, x, 3; add x, x, {at}; ")).collect();
        format!("pipe p : u32be tail pass {{ in x; {code} out x }}")
    };
    let products = "clmul a, a, a; ".repeat(4090);
    let looked_up = "lookup y, t, y; ".repeat(4090);
    let chain = entangled(56 << 10, &["clmul", "addc", "rotl", "mul", "xor"]).replace('\n', ";");
    vec![
        ("long neighbours", swapped(1000), times(64)),
        ("neighbours", swapped(10), times(256)),
        ("bounds that break one by one", queue(60), times(64)),
        (
            "products",
            format!("pipe p : u8 {{ in x; zext.u32 a, x; {products} trunc y, a; out y }}"),
            "p".into(),
        ),
        (
            "look-ups in a wide table",
            format!(
                "table t: u64 = [1, 2 repeat 65535]\npipe p : u64le tail pass {{ in x; mov y, x; {looked_up} out y }}"
            ),
            "p".into(),
        ),
        (
            "pipelines that double",
            (0..8).fold("pipeline p0(k: u8) = xor8(k)\n".to_owned(), |text, at| {
                text + &format!("pipeline p{}(k: u8) = p{at}(k) as a | p{at}(k) as b\n", at + 1)
            }),
            "p8(3)".into(),
        ),
        (
            "pipelines one in the other",
            (0..30).fold("pipeline p0 = adler32\n".to_owned(), |text, at| {
                text + &format!("pipeline p{} = p{at} as p{at}\n", at + 1)
            }),
            "p30".into(),
        ),
        (
            "windows of a byte",
            format!(
                "pipeline p = {}",
                (0..256).map(|at| format!("adler32 as a{at} per 1")).collect::<Vec<_>>().join(" | ")
            ),
            "p".into(),
        ),
        ("a long chain", format!("pipe p : u64be tail pass {{ in x; {chain} out last }}"), "p".into()),
    ]
}

/// Everything that a program does with a pipeline from outside but running it; gives the instructions of its
/// stages.
fn build(text: &str, pipeline: &str) -> Result<usize, String> {
    let mut library = Library::standard();
    library.load("hostile.pipe", text).map_err(|errors| errors.to_string())?;
    let pipeline = library.pipeline(pipeline).map_err(|errors| errors.to_string())?;
    let composition = pipeline.composition();
    let _ = inspect::plan(composition, &CompileOptions::default());
    pipeline.compile().map_err(|error| error.to_string())?;
    let apart = CompileOptions::new().separate_passes(true);
    pipeline.compile_with(&apart).map_err(|error| error.to_string())?;
    Ok(composition.stages.iter().map(|stage| stage.pipe.body.insts.len()).sum())
}

/// Everything that a program does with a text from outside but compiling it, for which see [`build`].
fn answer(text: &str) -> bool {
    let loaded = Library::standard().load("hostile.pipe", text).map_err(|errors| errors.to_string());
    let _ = pipe_lib::syntax::print::format_source("hostile.pipe", text);
    let _ = Library::standard().pipeline(text).map_err(|errors| errors.to_string());
    loaded.is_ok()
}

/// What this thread has spent on a processor, others' turns left out.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number is the time on a processor"))
}

#[test]
fn memory_and_allocations_are_bounded() {
    Library::standard();
    let mut over = Vec::new();
    for (what, text) in sources() {
        assert!(text.len() <= SIZE, "{what}");
        PEAK.set(LIVE.get());
        let (before, calls) = (LIVE.get(), CALLS.get());
        answer(&text);
        let (peak, calls) = (PEAK.get() - before, CALLS.get() - calls);
        // A few for each byte: none of what is asked for is done more than linearly often.
        if peak > MEMORY || calls > 20 * SIZE {
            over.push(format!("{what}: {:.1} MB, {calls} allocations", peak as f64 / 1e6));
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

#[test]
fn compiling_takes_bounded_memory_and_allocations() {
    Library::standard();
    let mut over = Vec::new();
    for (what, text, pipeline) in programs() {
        assert!(text.len() <= SIZE, "{what}: {} bytes", text.len());
        PEAK.set(LIVE.get());
        let (before, calls) = (LIVE.get(), CALLS.get());
        let work = build(&text, &pipeline)
            .unwrap_or_else(|error| panic!("{what}: {}", &error[..error.len().min(300)]));
        let (peak, calls) = (PEAK.get() - before, CALLS.get() - calls);
        // A few for each instruction, so no stage is looked at more than linearly often.
        if peak > COMPILED_MEMORY || calls > 40 * work.max(SIZE) {
            over.push(format!("{what}: {:.1} MB, {calls} allocations", peak as f64 / 1e6));
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

#[test]
#[ignore = "measures time: for an optimised build"]
fn time_is_bounded() {
    Library::standard();
    let mut over = Vec::new();
    println!("{:>36} {:>9} {:>9} {:>12}", "", "ms", "MB", "allocations");
    for (what, text) in sources() {
        let mut took = Duration::MAX;
        let mut accepted = false;
        PEAK.set(LIVE.get());
        let (before, calls) = (LIVE.get(), CALLS.get());
        for _ in 0..3 {
            let start = processor_time();
            accepted = answer(&text);
            took = took.min(processor_time() - start);
        }
        let (peak, calls) = (PEAK.get() - before, (CALLS.get() - calls) / 3);
        let note = if accepted { "  (legal)" } else { "" };
        let line =
            format!("{what:>36} {:9.2} {:9.2} {calls:12}{note}", took.as_secs_f64() * 1e3, peak as f64 / 1e6);
        println!("{line}");
        if took > TIME {
            over.push(line);
        }
    }
    assert!(over.is_empty(), "over {TIME:?}:\n{}", over.join("\n"));
}
