//! Object files: a program in C and one in Rust that link them, judged by the interpreter; what is refused.

use pipe_lib::emit::{EmitError, EmitOptions, EmitTarget, emit};
use pipe_lib::testing::{Generator, Rng};
use pipe_lib::{Backend, CompileOptions, Composition, Engine, Features, Library};
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The same numbers as in [`HARNESS`].
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16 ^ self.0 << 32
    }
}

const HARNESS: &str = r#"
#include <stdio.h>
#include <string.h>

struct function {
    const char *name;
    int (*run)(void *, const void *, void *, size_t, void *);
    void (*print)(const void *), (*begin)(void *), (*print_state)(const void *);
    size_t registers, gauge, piece;
    int modifies;
};

static uint64_t numbers;

static uint64_t next(void) {
    numbers = numbers * 6364136223846793005u + 1442695040888963407u;
    return numbers >> 16 ^ numbers << 32;
}

static unsigned char source[8192], sink[8192];

/* The number of the list that a caller does without, among a function's. */
static int null_list = -1;

static void fill(size_t len, size_t at) {
    numbers = len;
    memset(sink, 0xaa, sizeof sink);
    for (size_t i = 0; i < len; i++) source[at + i] = (unsigned char)next();
}

static void print_sink(void) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof sink; i++) hash = (hash ^ sink[i]) * 1099511628211u;
    printf(" %llx", (unsigned long long)hash);
}

static void check(const struct function *f, size_t len) {
    size_t from = 64 + len % 7, to = 64 + len / 3 % 19;
    uint64_t exports[512];
    int outcome;

    fill(len, from);
    outcome = f->run(NULL, source + from, sink + to, len, exports);
    printf("%s %zu copies %d", f->name, len, outcome);
    if (outcome == 0) f->print(exports);
    print_sink();

    fill(len, from);
    memcpy(sink + to, source + from, len);
    null_list = 0;
    outcome = f->run(NULL, sink + to, sink + to, len, exports);
    null_list = -1;
    printf("\n%s %zu in place %d", f->name, len, outcome);
    if (outcome == 0) f->print(exports);
    print_sink();

    fill(len, from);
    outcome = f->run(NULL, source + from, NULL, len, exports);
    printf("\n%s %zu reads %d", f->name, len, outcome);
    if (outcome == 0) f->print(exports);

    fill(len, from);
    memcpy(sink, source, sizeof source);
    outcome = f->run(NULL, source + from, source + from + 1, len, exports);
    printf("\n%s %zu over itself %d %d", f->name, len, outcome, outcome != 0 && memcmp(sink, source, sizeof source) != 0);

    fill(len, from);
    uint64_t state[512] = {1};
    outcome = f->gauge > 1 ? f->run(state, source + from, sink + to, 0, exports) : 4;
    printf("\n%s %zu at its end %d", f->name, len, outcome);

    state[0] = 0;
    for (size_t i = 0; i < f->registers; i++) state[1 + i] = next();
    f->begin(state);
    size_t first = len / 2 / f->piece * f->piece;
    if (f->gauge < f->piece && first + f->gauge <= len) first += f->gauge;
    outcome = f->run(state, source + from, sink + to, first, exports);
    printf("\n%s %zu a piece %d", f->name, len, outcome);
    if (outcome == 0) f->print(exports);
    if (outcome == 0) outcome = f->run(state, source + from + first, sink + to + first, len - first, exports);
    printf("\n%s %zu in pieces %d", f->name, len, outcome);
    if (outcome == 0) {
        f->print(exports);
        f->print_state(state);
        print_sink();
    }
    printf("\n");
}
"#;

const LENGTHS: &[usize] = &[
    0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 71, 96, 100, 127, 128,
    129, 160, 191, 192, 200, 255, 256, 257, 320, 511, 512, 520, 777, 1000, 1024, 1460, 2049, 4096, 4099,
    7000,
];

/// What a function gives in a program.
struct Function {
    name: String,
    composition: Composition,
}

/// A C program over all of them, and what it has to print.
fn program(functions: &[Function]) -> (String, String) {
    let (mut includes, mut glue, mut table) = (String::new(), String::new(), String::new());
    let mut expected = String::new();
    for Function { name, composition } in functions {
        let engine =
            Engine::compile(Arc::new(composition.clone()), &CompileOptions::from(Backend::Interp)).unwrap();
        let _ = writeln!(includes, "#include \"{name}.h\"");
        glue_of(&mut glue, name, &engine);
        let (registers, gauge) = (engine.registers().len(), engine.gauge());
        let modifies = i32::from(composition.modifies());
        let _ = writeln!(
            table,
            "    {{\"{name}\", run_{name}, print_{name}, begin_{name}, print_state_{name}, {registers}, {gauge}, \
             {piece}, {modifies}}},",
            piece = piece(&engine),
        );
        LENGTHS.iter().for_each(|len| expect(&mut expected, name, &engine, *len));
    }
    let lengths = LENGTHS.iter().map(|len| format!("{len}, ")).collect::<String>();
    let main = format!(
        "static const struct function functions[] = {{\n{table}}};\n\nint main(void) {{\n    \
         static const size_t lengths[] = {{{lengths}}};\n    \
         for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)\n        \
         for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) check(&functions[f], lengths[i]);\n    \
         return 0;\n}}\n"
    );
    (format!("{includes}{HARNESS}\n{glue}{main}"), expected)
}

/// The window of the stage that an export or a register is of.
fn window_of(engine: &Engine, full_name: &str) -> Option<u64> {
    let instance = full_name.split('.').next().unwrap();
    let stage = engine.composition().stages.iter().find(|stage| stage.name == instance);
    stage.and_then(|stage| stage.window).map(std::num::NonZeroU64::get)
}

/// Bytes of the first of two pieces of a stream. Where windows cut words it ends a word behind a window's
/// end, if it can.
fn first_piece(engine: &Engine, len: usize) -> usize {
    let (piece, gauge) = (piece(engine) as usize, engine.gauge());
    let first = len / 2 / piece * piece;
    if gauge < piece && first + gauge <= len { first + gauge } else { first }
}

/// Bytes of which the pieces of a stream are multiples.
fn piece(engine: &Engine) -> u64 {
    let gauge = engine.gauge() as u64;
    let mut windows = engine.composition().stages.iter().filter_map(|stage| stage.window);
    windows.find(|window| !window.get().is_multiple_of(gauge)).map_or(gauge, std::num::NonZeroU64::get)
}

/// What is different for each function: where its results go, and how they are told. One more place behind
/// each list stays as it is.
fn glue_of(glue: &mut String, name: &str, engine: &Engine) {
    let (mut lists, mut run, mut print) = (String::new(), String::new(), String::new());
    let mut number = 0;
    for export in engine.exports() {
        let member = export.name.replace('.', "_");
        let Some(window) = window_of(engine, &export.name) else {
            let _ = writeln!(print, "    printf(\" %llx\", (unsigned long long)x->{member});");
            continue;
        };
        let list = format!("list_{name}_{number}");
        let ty = match export.ty {
            pipe_lib::ir::Ty::Bool | pipe_lib::ir::Ty::U8 => "uint8_t",
            pipe_lib::ir::Ty::U16 => "uint16_t",
            pipe_lib::ir::Ty::U32 => "uint32_t",
            _ => "uint64_t",
        };
        let _ = writeln!(lists, "static {ty} {list}[7002];\nstatic size_t count_{list};");
        let _ = writeln!(
            run,
            "        count_{list} = PIPE_WINDOWS(pos, n, {window});\n        memset({list}, 0xee, sizeof \
             {list});\n        x->{member} = null_list == {number} ? NULL : {list};"
        );
        number += 1;
        let _ = writeln!(
            print,
            "    if (!x->{member}) printf(\" null\");\n    else {{\n    printf(\" [\");\n    for (size_t i = 0; i < \
             count_{list}; i++) printf(\"%llx,\", (unsigned long long){list}[i]);\n    printf({list}[count_{list}] == \
             ({ty})0xeeeeeeeeeeeeeeeeu ? \"]\" : \"too far\");\n    }}"
        );
    }
    let (mut begin, mut state) = (String::new(), String::new());
    for register in engine.registers() {
        let member = register.name.replace('.', "_");
        let _ = match window_of(engine, &register.name) {
            Some(_) => writeln!(begin, "    x->{member}_first = x->{member};"),
            None => writeln!(state, "    printf(\" %llx\", (unsigned long long)x->{member});"),
        };
    }
    let _ = writeln!(
        glue,
        "{lists}static int run_{name}(void *s, const void *a, void *b, size_t n, void *e) {{\n    \
         uint64_t pos = s ? ((struct {name}_state *)s)->pos : 0;\n    struct {name}_exports *x = e;\n    \
         (void)pos;\n    if (x) {{\n{run}    }}\n    return {name}(s, a, b, n, e);\n}}\n\n\
         static void print_{name}(const void *e) {{\n    const struct {name}_exports *x = e;\n    (void)x;\n\
         {print}}}\n\n\
         static void begin_{name}(void *s) {{\n    struct {name}_state *x = s;\n    (void)x;\n{begin}}}\n\n\
         static void print_state_{name}(const void *s) {{\n    const struct {name}_state *x = s;\n    \
         printf(\" %llx\", (unsigned long long)x->pos);\n{state}}}\n"
    );
}

/// What the harness prints for one length: the interpreter says.
fn expect(text: &mut String, name: &str, engine: &Engine, len: usize) {
    let to = 64 + len / 3 % 19;
    let mut numbers = Numbers(len as u64);
    let source: Vec<u8> = (0..len).map(|_| numbers.next() as u8).collect();
    let hash = |sink: &[u8]| {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
        sink.iter().fold(14_695_981_039_346_656_037, fold)
    };
    // Of windows those from the one on that has byte `from`; of their lists all, or all but the first.
    let told = |run: &pipe_lib::Run<'_>, from: u64, mut is_null: bool| -> String {
        let text = |export: &pipe_lib::ExportInfo| match run.export_value(export.id()) {
            pipe_lib::ExportValue::Windows(_) if std::mem::take(&mut is_null) => " null".to_owned(),
            pipe_lib::ExportValue::Windows(values) => {
                let window = window_of(engine, &export.name).unwrap();
                let values = &values[(from / window) as usize..];
                format!(" [{}]", values.iter().map(|value| format!("{value:x},")).collect::<String>())
            }
            _ => format!(" {:x}", run.value(export.id())),
        };
        engine.exports().iter().map(text).collect()
    };
    let exports = |run: &pipe_lib::Run<'_>, from: u64| told(run, from, false);
    // A stream may have got to its first byte where a window is one byte long.
    let piece = piece(engine);
    let gauge = engine.gauge() as u64;
    let ended = if gauge == 1 || !(1 % piece).is_multiple_of(gauge) { 4 } else { 0 };
    let mut imports = engine.imports();
    for register in engine.registers() {
        imports.set(&register.name, numbers.next() & register.ty.mask()).unwrap();
    }
    let first = first_piece(engine, len);
    let mut words_of_first = vec![0; first];
    let run_of_first = engine.run_with(&imports, &source[..first], &mut words_of_first).unwrap();
    let mut sink = vec![0xaa; 8192];
    let mut words = vec![0; len];
    let run = engine.run(&source, &mut words);
    match &run {
        Ok(run) => {
            sink[to..to + len].copy_from_slice(&words);
            let (exports, hash) = (exports(run, 0), hash(&sink));
            let _ = writeln!(text, "{name} {len} copies 0{exports} {hash:x}");
            let without_one = told(run, 0, true);
            let _ = writeln!(text, "{name} {len} in place 0{without_one} {hash:x}");
            let reads = !engine.composition().modifies() || len == 0;
            let _ = match reads {
                true => writeln!(text, "{name} {len} reads 0{exports}"),
                false => writeln!(text, "{name} {len} reads 3"),
            };
            // One byte further on they overlap, but for those of no bytes or of one.
            let over_itself = if len > 1 { 2 } else { 0 };
            let _ = writeln!(text, "{name} {len} over itself {over_itself} 0");
            let _ = writeln!(text, "{name} {len} at its end {ended}");
        }
        Err(_) => {
            let _ = writeln!(text, "{name} {len} copies 1 {:x}", hash(&sink));
            sink[to..to + len].copy_from_slice(&source);
            let _ = writeln!(text, "{name} {len} in place 1 {:x}", hash(&sink));
            let _ = writeln!(text, "{name} {len} reads 1");
            let _ = writeln!(text, "{name} {len} over itself 1 0");
            let _ = writeln!(text, "{name} {len} at its end {ended}");
            let _ = writeln!(text, "{name} {len} a piece 0{}", exports(&run_of_first, 0));
            let _ = writeln!(text, "{name} {len} in pieces 1");
            return;
        }
    }
    let mut words = vec![0; len];
    let run = engine.run_with(&imports, &source, &mut words).unwrap();
    sink.fill(0xaa);
    sink[to..to + len].copy_from_slice(&words);
    let _ = writeln!(text, "{name} {len} a piece 0{}", exports(&run_of_first, 0));
    let _ = write!(text, "{name} {len} in pieces 0{} {len:x}", exports(&run, first as u64));
    for register in engine.registers().iter().filter(|register| window_of(engine, &register.name).is_none()) {
        let _ = write!(text, " {:x}", run.register(&register.name).unwrap());
    }
    let _ = writeln!(text, " {:x}", hash(&sink));
}

fn run(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What compiles C for a kind of machine, and what runs a program of that kind here.
struct Toolchain {
    target: EmitTarget,
    cc: &'static str,
    runner: &'static [&'static str],
}

fn this_machine() -> Toolchain {
    Toolchain { target: EmitTarget::default(), cc: "cc", runner: &[] }
}

/// Emits, compiles, links and runs; every line is what the interpreter says.
fn judge(functions: &[Function], machines: impl Fn(&str) -> Option<Vec<Features>>) {
    judge_on(&this_machine(), functions, machines);
}

fn judge_on(toolchain: &Toolchain, functions: &[Function], machines: impl Fn(&str) -> Option<Vec<Features>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file);
    let mut objects = Vec::new();
    for Function { name, composition } in functions {
        let options = EmitOptions::new(name).unwrap().target(toolchain.target);
        let options = match machines(name) {
            Some(machines) => options.machines(machines),
            None => options,
        };
        let emitted = emit(composition, &options).unwrap_or_else(|error| panic!("{error}\n{composition}"));
        std::fs::write(path(&format!("{name}.h")), emitted.c_header()).unwrap();
        objects.push(path(&format!("{name}.o")));
        std::fs::write(objects.last().unwrap(), emitted.object()).unwrap();
    }
    let (source, expected) = program(functions);
    std::fs::write(path("main.c"), source).unwrap();
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pie", "-Wl,--fatal-warnings", "-o"];
    let mut cc = Command::new(toolchain.cc);
    run(cc.args(flags).arg(path("main")).arg(path("main.c")).args(&objects));
    let mut program = match toolchain.runner {
        [] => Command::new(path("main")),
        [runner, args @ ..] => {
            let mut command = Command::new(runner);
            command.args(args).arg(path("main"));
            command
        }
    };
    let printed = run(&mut program);
    let (mut printed, mut expected) = (printed.lines(), expected.lines());
    for expected in expected.by_ref() {
        let printed = printed.next().unwrap_or("nothing");
        let name = expected.split(' ').next().unwrap();
        let of = || &functions.iter().find(|function| function.name == name).unwrap().composition;
        assert_eq!(printed, expected, "{}", of());
    }
    assert_eq!(printed.next(), None);
}

/// Whether there is what compiles C; says so if not.
fn has_cc() -> bool {
    let found = cfg!(target_os = "linux") && Command::new("cc").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: no C compiler");
    }
    found
}

fn composition(text: &str) -> Composition {
    Library::standard().pipeline(text).unwrap_or_else(|error| panic!("{text}: {error}")).composition().clone()
}

/// Of the standard library what there is code for, and compositions of it.
fn standard() -> Vec<Function> {
    let library = Library::standard();
    let names = library.pipes().filter(|pipe| pipe.params.iter().all(|param| param.default.is_some()));
    let names: Vec<&str> = names.map(|pipe| pipe.name.as_str()).filter(|name| !name.contains('/')).collect();
    let of_catalogue = |name: &&str| name.starts_with("crc") && name.contains('_');
    let some = names.iter().copied().filter(|name| !of_catalogue(name) || name.len() == 12);
    let mut texts: Vec<String> = some.map(str::to_owned).collect();
    texts.extend(
        [
            "inet_cksum as sum | byteswap32 | crc32c",
            "inet_cksum as plain | xor32(key=0xdeadbeef) | inet_cksum as cipher",
            "adler32 | delta8 | crc32 | undelta8 | min_max_u8",
            "ws_mask(key=0x01020304) | crc64_nvme | count_byte(b=65)",
            "byteswap64 | fletcher32 | xor8(key=3)",
            "crc32c per 512",
            "crc32c per 512 | inet_cksum | byteswap32 | crc16_t10dif as guard per 4096",
            "delta32 per 5 | fletcher16 per 5",
            "adler32 per 1000 | xor32(key=9) | adler32 as whole",
        ]
        .map(str::to_owned),
    );
    let composed = texts.iter().map(|text| composition(text));
    let emitted = composed.filter(|composition| match emit(composition, &portable_options("x")) {
        Ok(_) => true,
        Err(EmitError::Cannot(_)) => {
            // Of what the standard library has, these alone.
            let stages = || composition.stages.iter();
            let wide = stages().any(|stage| stage.pipe.is_wide());
            assert!(wide || stages().any(|stage| stage.pipe.holds_secrets()), "{composition}");
            false
        }
        Err(error) => panic!("{error}"),
    });
    emitted
        .enumerate()
        .map(|(number, composition)| Function { name: format!("f{number}"), composition })
        .collect()
}

fn portable_options(name: &str) -> EmitOptions {
    EmitOptions::new(name).unwrap().machines(Vec::new())
}

#[test]
fn the_standard_pipes_run_in_a_c_program() {
    if has_cc() {
        judge(&standard(), |_| None);
    }
}

#[test]
fn the_standard_pipes_run_without_vectors_of_any_machine() {
    if has_cc() {
        judge(&standard(), |_| Some(Vec::new()));
    }
}

/// Random pipelines that there is code for, without what the library's driver reaches.
fn random(default_seed: u64, default_rounds: u64) -> Vec<Function> {
    let seed = std::env::var("EMIT_SEED").map_or(default_seed, |seed| seed.parse().unwrap());
    let rounds = std::env::var("EMIT_ROUNDS").map_or(default_rounds, |rounds| rounds.parse().unwrap());
    let mut functions = Vec::new();
    for number in 0..rounds {
        let mut composition = Generator::new(&mut Rng::new(seed + number)).composition();
        (composition.source, composition.sink) = (None, None);
        (composition.source_frame, composition.sink_frame) = (None, None);
        composition.validate().unwrap();
        let name = format!("seed{}", seed + number);
        match emit(&composition, &portable_options(&name)) {
            Ok(_) => functions.push(Function { name, composition }),
            Err(EmitError::Cannot(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(functions.len() >= rounds as usize / 2, "{} of {rounds}", functions.len());
    functions
}

#[test]
fn random_pipelines_run_in_a_c_program() {
    if !has_cc() {
        return;
    }
    // Some for all machines, some for one, some for none.
    let machines = |name: &str| {
        // Elsewhere they are refused.
        if !cfg!(target_arch = "x86_64") {
            return None;
        }
        let number: usize = name.trim_start_matches("seed").parse().unwrap();
        let one = |names: &str| Some(vec![Features::of_machine(names).unwrap()]);
        match number % 4 {
            0 => None,
            1 => one("avx2,pclmul"),
            2 => one("avx512,vnni,pclmul"),
            _ => Some(Vec::new()),
        }
    };
    judge(&random(1, 24), machines);
}

/// The other kind of machine that there is a cross compiler and an emulator for.
#[cfg(feature = "cross")]
fn aarch64() -> Option<Toolchain> {
    let toolchain = Toolchain {
        target: "aarch64".parse().unwrap(),
        cc: "aarch64-linux-gnu-gcc",
        runner: &["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"],
    };
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let found = there(toolchain.cc) && there(toolchain.runner[0]);
    if !found {
        eprintln!("skipped: no {} or {}", toolchain.cc, toolchain.runner[0]);
    }
    found.then_some(toolchain)
}

#[cfg(feature = "cross")]
#[test]
fn the_standard_pipes_run_on_aarch64() {
    if let Some(toolchain) = aarch64() {
        judge_on(&toolchain, &standard(), |_| None);
    }
}

#[cfg(feature = "cross")]
#[test]
fn random_pipelines_run_on_aarch64() {
    if let Some(toolchain) = aarch64() {
        judge_on(&toolchain, &random(100, 24), |_| None);
    }
}

/// What is in vectors runs so on every AArch64, since SIMD is part of each.
#[cfg(feature = "cross")]
#[test]
fn what_is_portable_is_in_vectors_on_aarch64() {
    let in_vectors = |pipeline: &str| {
        let options = EmitOptions::new("x").unwrap().target("aarch64".parse().unwrap());
        let emitted = emit(&composition(pipeline), &options).unwrap();
        emitted.codes() == ["portable: 128-bit vectors"]
    };
    for pipeline in ["inet_cksum", "byteswap32 | xor32(key=1)", "delta8 | undelta8", "min_max_u8"] {
        assert!(in_vectors(pipeline), "{pipeline}");
    }
}

/// The target by its name is what it is without, on such a machine.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn the_target_of_this_machine_has_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let pipeline = "inet_cksum | byteswap32";
    for (file, more) in [("plain.o", &[][..]), ("named.o", &["--target", "x86_64"])] {
        let args = ["emit", pipeline, "--kind", "object", "--name", "x", "-o", &path(file)];
        let output = pipec(&[&args, more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(std::fs::read(path("plain.o")).unwrap(), std::fs::read(path("named.o")).unwrap());
}

fn pipec(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_pipec")).args(args).output().unwrap()
}

#[track_caller]
fn refused(args: &[&str], status: i32) -> String {
    let output = pipec(args);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(output.stdout, b"");
    String::from_utf8(output.stderr).unwrap()
}

/// The three kinds by the command line, and a program in Rust that links the object.
#[test]
fn a_rust_program_calls_it() {
    if !has_cc() || Command::new("rustc").arg("--version").output().is_err() {
        eprintln!("skipped: no Rust compiler");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let pipeline = "inet_cksum as sum | byteswap32 | crc32c";
    for (kind, file) in [("object", "send_frame.o"), ("rust", "send_frame.rs"), ("header", "send_frame.h")] {
        let output = pipec(&["emit", pipeline, "--kind", kind, "-o", &path(file)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.contains("portable"), kind == "object", "{said}");
    }
    std::fs::write(
        path("main.rs"),
        r#"
        #[path = "send_frame.rs"]
        mod send_frame;
        use send_frame::{SendFrameError, SendFrameState, send_frame_run};

        fn main() {
            let src = *b"0123456789abcdef";
            let mut dst = [0; 16];
            let whole = send_frame_run(None, &src, &mut dst).unwrap();
            let mut state = SendFrameState::INITIAL;
            for (src, dst) in [(&src[..8], &mut [0; 8]), (&src[8..], &mut [0; 8])] {
                let exports = send_frame_run(Some(&mut state), src, dst).unwrap();
                assert_eq!(exports == whole, state.pos == 16);
            }
            assert_eq!(send_frame_run(None, &src[..3], &mut dst[..3]), Err(SendFrameError::BadLength));
            println!("{} {:x} {:x}", std::str::from_utf8(&dst).unwrap(), whole.sum_cksum, whole.crc32c_crc);
        }
        "#,
    )
    .unwrap();
    let mut rustc = Command::new("rustc");
    let link = format!("link-arg={}", path("send_frame.o"));
    run(rustc.args(["--edition", "2024", "-C", &link, "-o", &path("main"), &path("main.rs")]));
    let engine =
        Library::standard().pipeline(pipeline).unwrap().compile_with(&Backend::Interp.into()).unwrap();
    let mut dst = [0; 16];
    let made = engine.run(b"0123456789abcdef", &mut dst).unwrap();
    let (cksum, crc) = (made.export("sum.cksum").unwrap(), made.export("crc32c.crc").unwrap());
    let expected = format!("{} {cksum:x} {crc:x}\n", std::str::from_utf8(&dst).unwrap());
    assert_eq!(run(&mut Command::new(path("main"))), expected);
}

/// Of stages with windows a program in Rust gets lists, in one call and in several.
#[test]
fn a_rust_program_gets_a_result_for_each_window() {
    if !has_cc() || Command::new("rustc").arg("--version").output().is_err() {
        eprintln!("skipped: no Rust compiler");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    for (kind, file) in [("object", "blocks.o"), ("rust", "blocks.rs")] {
        let pipeline = "crc32c per 6 | inet_cksum as whole";
        // The generated function has locals, one of that name.
        let output = pipec(&["emit", pipeline, "--kind", kind, "--name", "pos", "-o", &path(file)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    std::fs::write(
        path("main.rs"),
        r#"
        #[path = "blocks.rs"]
        mod blocks;
        use blocks::{PosState, pos_run};

        fn main() {
            let src: Vec<u8> = (0..=25).collect();
            let whole = pos_run(None, &src, None).unwrap();
            let alone = |window: &[u8]| pos_run(None, window, None).unwrap().crc32c_crc[0];
            // Pieces that end where a window does, and within one.
            for end in [12, 8, 22] {
                let mut state = PosState::INITIAL;
                let first = pos_run(Some(&mut state), &src[..end], None).unwrap();
                let second = pos_run(Some(&mut state), &src[end..], None).unwrap();
                assert_eq!(first.crc32c_crc, src[..end].chunks(6).map(alone).collect::<Vec<_>>());
                assert_eq!(second.crc32c_crc, whole.crc32c_crc[end / 6..]);
                assert_eq!(second.whole_cksum, whole.whole_cksum);
            }
            for (window, crc) in src.chunks(6).zip(&whole.crc32c_crc) {
                assert_eq!(alone(window), *crc);
            }
            println!("{:x?}", whole.crc32c_crc);
            // The first window begins with one number, those behind it with another.
            let mut state = PosState { crc32c_crc: 0x1234, crc32c_crc_first: 0x5678, ..PosState::INITIAL };
            println!("{:x?}", pos_run(Some(&mut state), &src, None).unwrap().crc32c_crc);
            assert_eq!(state.crc32c_crc_first, 0x5678);
        }
        "#,
    )
    .unwrap();
    let mut rustc = Command::new("rustc");
    let link = format!("link-arg={}", path("blocks.o"));
    run(rustc.args(["--edition", "2024", "-C", &link, "-o", &path("main"), &path("main.rs")]));
    let engine = Library::standard().pipeline("crc32c").unwrap();
    let engine = engine.compile_with(&Backend::Interp.into()).unwrap();
    let src: Vec<u8> = (0..=25).collect();
    // A line of the windows' results; each begins with a number, or as the pipe says.
    let line = |begin: &dyn Fn(usize) -> Option<u64>| {
        let crcs = src.chunks(6).enumerate().map(|(number, window)| {
            let mut imports = engine.imports();
            if let Some(value) = begin(number) {
                imports.set(&engine.registers()[0].name, value).unwrap();
            }
            let mut copy = vec![0; window.len()];
            let run = engine.run_with(&imports, window, &mut copy).unwrap();
            format!("{:x}", run.export("crc32c.crc").unwrap())
        });
        format!("[{}]\n", crcs.collect::<Vec<_>>().join(", "))
    };
    let other = line(&|number| Some(if number == 0 { 0x1234 } else { 0x5678 }));
    assert_eq!(run(&mut Command::new(path("main"))), line(&|_| None) + &other);
}

#[test]
fn what_needs_the_library_is_refused_with_the_reason() {
    let object = ["--kind", "object", "-o", "/nonexistent/x.o"];
    for (pipeline, reason) in [
        ("crc32c per 5 | byteswap32 | crc32 as c per 7", "windows that end within words"),
        ("byteswap32 -> lance", "a layout"),
        ("crc32 -> ethernet_fcs", "a frame"),
        ("aes128_gcm_seal", "secret states"),
        ("-> lance", "no stages"),
    ] {
        let said = refused(&[&["emit", pipeline][..], &object].concat(), 1);
        assert!(said.contains(reason), "{pipeline}: {said}");
    }
    for name in ["int", "a-b"] {
        let said = refused(&["emit", "crc32", "--kind", "header", "--name", name], 1);
        assert!(said.contains("cannot name a function"), "{said}");
    }
    let said = refused(&["emit", "crc32", "--kind", "header", "--name", "x", "--features", "mmx"], 1);
    assert!(said.contains("`mmx`"), "{said}");
    let arm = [&["emit", "crc32"][..], &object, &["--target", "aarch64"]].concat();
    let said = refused(&[&arm[..], &["--features", "avx2"]].concat(), 1);
    assert!(said.contains("sets of instructions are x86-64's"), "{said}");
    if cfg!(all(target_arch = "x86_64", not(feature = "cross"))) {
        assert!(refused(&arm, 1).contains("the feature `cross`"));
    }
    let said = refused(&[&["emit", "crc32"][..], &object, &["--target", "vax"]].concat(), 2);
    assert!(said.contains("no target is called `vax`; there are x86_64 and aarch64"), "{said}");
    assert!(refused(&["emit", "crc32", "--kind", "object"], 1).contains("-o FILE.o"));
    assert!(refused(&["emit", "crc32", "--kind", "rust"], 1).contains("--name"));
    assert!(refused(&["emit", "crc32", "--kind", "xdp", "--name", "x"], 1).contains("--name"));
}

/// A program that is loaded anywhere needs nothing of the library and no address of its own.
#[test]
fn objects_refer_to_nothing_outside() {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationKind};
    for Function { composition, .. } in standard() {
        let emitted = emit(&composition, &EmitOptions::new("x").unwrap()).unwrap();
        let file = object::File::parse(emitted.object()).unwrap();
        let is_file = |symbol: &object::Symbol<'_, '_>| symbol.kind() == object::SymbolKind::File;
        for symbol in file.symbols().filter(|symbol| symbol.index().0 != 0 && !is_file(symbol)) {
            assert!(!symbol.is_undefined(), "{:?}: {composition}", symbol.name());
            let exported = symbol.name() == Ok("x");
            assert_eq!(symbol.is_global(), exported, "{:?}", symbol.name());
        }
        for section in file.sections() {
            for (_, relocation) in section.relocations() {
                let near =
                    matches!(relocation.kind(), RelocationKind::Relative | RelocationKind::PltRelative);
                assert!(near || !cfg!(target_arch = "x86_64"), "{relocation:?}: {composition}");
            }
        }
    }
}

/// The example of `docs/emit.md`, as it stands there.
#[test]
fn the_documented_program_prints_what_is_documented() {
    if !has_cc() {
        return;
    }
    let page = include_str!("../../docs/emit.md");
    let (_, rest) = page.split_once("```c\n").unwrap();
    let (program, rest) = rest.split_once("```").unwrap();
    let (_, rest) = rest.split_once("prints `").unwrap();
    let (printed, _) = rest.split_once('`').unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    std::fs::write(path("main.c"), program).unwrap();
    let pipeline = "inet_cksum as sum | byteswap32 | crc32c";
    for (kind, file) in [("object", "send_frame.o"), ("header", "send_frame.h")] {
        let output = pipec(&["emit", pipeline, "--kind", kind, "-o", &path(file)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    run(Command::new("cc").args([
        "-Wall",
        "-Werror",
        "-o",
        &path("main"),
        &path("main.c"),
        &path("send_frame.o"),
    ]));
    assert_eq!(run(&mut Command::new(path("main"))), format!("{printed}\n"));
}
