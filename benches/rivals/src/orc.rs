//! GStreamer's Orc, where its shared library is installed: it, too, composes at run time, array programs
//! without state.
//!
//! What Orc can say are pipelines of stateless steps and plain sums: a one's complement sum is two 32-bit
//! accumulators of 16-bit halves, folded afterwards, for at most 2^16 words a run. What it cannot: CRCs,
//! Adler-32, device layouts.

use crate::{MAX_SUMS, Step, Sums, fold};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::LazyLock;

/// Words of 32 bits in one run: a halfword's sum over them fits 32 bits.
const MAX_WORDS: usize = 1 << 16;

type Program = *mut c_void;
type Executor = *mut c_void;
type Name = *const c_char;

/// The functions of the library, version 0.4, that are called.
struct Library {
    program_new: unsafe extern "C" fn() -> Program,
    add_destination: unsafe extern "C" fn(Program, c_int, Name) -> c_int,
    add_source: unsafe extern "C" fn(Program, c_int, Name) -> c_int,
    add_parameter: unsafe extern "C" fn(Program, c_int, Name) -> c_int,
    add_accumulator: unsafe extern "C" fn(Program, c_int, Name) -> c_int,
    add_temporary: unsafe extern "C" fn(Program, c_int, Name) -> c_int,
    append: unsafe extern "C" fn(Program, Name, Name, Name, Name),
    compile: unsafe extern "C" fn(Program) -> c_int,
    executor_new: unsafe extern "C" fn(Program) -> Executor,
    set_n: unsafe extern "C" fn(Executor, c_int),
    set_array: unsafe extern "C" fn(Executor, Name, *mut c_void),
    set_parameter: unsafe extern "C" fn(Executor, Name, c_int),
    run: unsafe extern "C" fn(Executor),
    accumulator: unsafe extern "C" fn(Executor, c_int) -> c_int,
}

#[allow(clippy::missing_transmute_annotations, reason = "the fields of `Library` say the types")]
static LIBRARY: LazyLock<Option<Library>> = LazyLock::new(|| {
    // SAFETY: loading a system library runs its constructors; Orc's do nothing to this program.
    let library = unsafe { libc::dlopen(c"liborc-0.4.so.0".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        return None;
    }
    macro_rules! function {
        ($name:literal) => {{
            // SAFETY: the handle is open and stays so; the name is a C string; a function's type is that of
            // the library's headers.
            unsafe {
                let symbol = libc::dlsym(library, $name.as_ptr());
                if symbol.is_null() {
                    return None;
                }
                std::mem::transmute(symbol)
            }
        }};
    }
    let init: unsafe extern "C" fn() = function!(c"orc_init");
    // SAFETY: may be called at any time.
    unsafe { init() };
    Some(Library {
        program_new: function!(c"orc_program_new"),
        add_destination: function!(c"orc_program_add_destination"),
        add_source: function!(c"orc_program_add_source"),
        add_parameter: function!(c"orc_program_add_parameter"),
        add_accumulator: function!(c"orc_program_add_accumulator"),
        add_temporary: function!(c"orc_program_add_temporary"),
        append: function!(c"orc_program_append_str"),
        compile: function!(c"orc_program_compile"),
        executor_new: function!(c"orc_executor_new"),
        set_n: function!(c"orc_executor_set_n"),
        set_array: function!(c"orc_executor_set_array_str"),
        set_parameter: function!(c"orc_executor_set_param_str"),
        run: function!(c"orc_executor_run"),
        // By number: the function that takes a name reads beside the accumulators.
        accumulator: function!(c"orc_executor_get_accumulator"),
    })
});

/// The accumulators of the even and the odd halfwords, for each sum.
const ACCUMULATORS: [[&CStr; 2]; 2] = [[c"a0", c"a1"], [c"b0", c"b1"]];

/// A pipeline compiled by Orc.
#[derive(Debug)]
pub struct Orc {
    executor: Executor,
    /// The variables of each sum.
    sums: Vec<[c_int; 2]>,
    has_key: bool,
}

impl Orc {
    /// For these steps, if the library is here and can say them. The program is kept for as long as the
    /// process runs.
    pub fn new(steps: &[Step]) -> Option<Orc> {
        let library = LIBRARY.as_ref()?;
        let is_known = |step: &Step| matches!(step, Step::Inet | Step::Swap32 | Step::Xor32(_));
        let sums = steps.iter().filter(|step| step.sums()).count();
        // With four accumulators version 0.4.33 gives wrong sums of short arrays.
        if !steps.iter().all(is_known) || sums > 1 {
            return None;
        }
        let has_key = steps.iter().any(|step| matches!(step, Step::Xor32(_)));
        // SAFETY: the program is valid from here on, and names are C strings that live for ever.
        unsafe {
            let program = (library.program_new)();
            (library.add_destination)(program, 4, c"d".as_ptr());
            (library.add_source)(program, 4, c"s".as_ptr());
            if has_key {
                (library.add_parameter)(program, 4, c"key".as_ptr());
            }
            for (name, size) in [(c"v", 4), (c"half", 2), (c"word", 4)] {
                (library.add_temporary)(program, size, name.as_ptr());
            }
            let sums = ACCUMULATORS[..sums]
                .iter()
                .map(|names| names.map(|name| (library.add_accumulator)(program, 4, name.as_ptr())))
                .collect();
            let append = |code: &'static CStr, names: [&'static CStr; 3]| {
                let [a, b, c] =
                    names.map(|name| if name.is_empty() { std::ptr::null() } else { name.as_ptr() });
                (library.append)(program, code.as_ptr(), a, b, c);
            };
            append(c"copyl", [c"v", c"s", c""]);
            let mut accumulators = ACCUMULATORS.iter();
            for step in steps {
                match step {
                    Step::Swap32 => append(c"swapl", [c"v", c"v", c""]),
                    Step::Xor32(_) => append(c"xorl", [c"v", c"v", c"key"]),
                    _ => {
                        let [even, odd] = accumulators.next()?;
                        for (select, accumulator) in [(c"select0lw", even), (c"select1lw", odd)] {
                            append(select, [c"half", c"v", c""]);
                            append(c"convuwl", [c"word", c"half", c""]);
                            append(c"accl", [accumulator, c"word", c""]);
                        }
                    }
                }
            }
            append(c"copyl", [c"d", c"v", c""]);
            // Results from 0x100 on are failures.
            if (library.compile)(program) >= 0x100 {
                return None;
            }
            Some(Orc { executor: (library.executor_new)(program), sums, has_key })
        }
    }

    /// From source to destination, of the same length, a multiple of 4, and at addresses that are one.
    ///
    /// # Panics
    /// At other addresses: its stores are aligned by the size of its elements.
    pub fn run(&self, src: &[u8], dst: &mut [u8], key: u32) -> Sums {
        let Some(library) = LIBRARY.as_ref() else { return Sums::default() };
        let is_aligned = |at: *const u8| at.cast::<u32>().is_aligned();
        assert!(src.is_empty() || is_aligned(src.as_ptr()) && is_aligned(dst.as_ptr()));
        let mut totals = [0u64; MAX_SUMS];
        for (src, dst) in src.chunks(4 * MAX_WORDS).zip(dst.chunks_mut(4 * MAX_WORDS)) {
            // SAFETY: the executor is this pipeline's, and no other thread has it, since `Orc` is not `Sync`;
            // arrays are as long as is said.
            unsafe {
                (library.set_n)(self.executor, (src.len() / 4) as c_int);
                (library.set_array)(self.executor, c"s".as_ptr(), src.as_ptr().cast_mut().cast());
                (library.set_array)(self.executor, c"d".as_ptr(), dst.as_mut_ptr().cast());
                if self.has_key {
                    (library.set_parameter)(self.executor, c"key".as_ptr(), key.to_be() as c_int);
                }
                (library.run)(self.executor);
                for (variables, total) in self.sums.iter().zip(&mut totals) {
                    for &variable in variables {
                        *total += u64::from((library.accumulator)(self.executor, variable) as u32);
                    }
                }
            }
        }
        totals.map(|total| u32::from(fold(total).to_be()))
    }
}
