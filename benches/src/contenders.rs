//! Who takes part: our engines, and the rivals.

use crate::cases::{Case, KEY};
use pipe_lib::{Backend, CompileOptions, Library};
use rivals::{Isa, Separate, Sums};

/// Moves the bytes from a source to a destination of the same length and gives the sums.
pub type Run = Box<dyn Fn(&[u8], &mut [u8]) -> Sums>;

/// One way of doing a case.
pub struct Contender {
    /// For people: `memcpy`, `separate`, `blocked 4K`, `hand AVX-512`, `cranelift`, ...
    pub name: String,
    /// How.
    pub run: Run,
    /// Whether it does the whole case, so that its result must be that of the others.
    pub is_complete: bool,
}

impl std::fmt::Debug for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A pure copy: what any transfer costs at least.
pub const MEMCPY: &str = "memcpy";
/// The best separate pass for each step.
pub const SEPARATE: &str = "separate";
/// The engine that `Backend::Auto` chooses.
pub const AUTO: &str = "engine";

/// Everyone who can do the case on this machine.
///
/// # Errors
/// If the standard library does not have the case's pipes, or no backend takes them.
pub fn contenders(case: &Case) -> anyhow::Result<Vec<Contender>> {
    let mut list = vec![Contender {
        name: MEMCPY.into(),
        run: Box::new(|src, dst| {
            dst.copy_from_slice(src);
            Sums::default()
        }),
        is_complete: false,
    }];
    let separate = Separate::new(case.steps);
    for (name, block) in [(SEPARATE, usize::MAX), ("blocked 4K", 4 << 10), ("blocked 16K", 16 << 10)] {
        let separate = separate.clone();
        let run = move |src: &[u8], dst: &mut [u8]| separate.blocked(src, dst, block);
        list.push(Contender { name: name.into(), run: Box::new(run), is_complete: true });
    }
    for (name, isa) in [("rustc", Isa::Portable), ("hand AVX2", Isa::Avx2), ("hand AVX-512", Isa::Avx512)] {
        if let Some(fused) = rivals::fused(case.steps, isa) {
            let run = move |src: &[u8], dst: &mut [u8]| fused(src, dst, KEY);
            list.push(Contender { name: name.into(), run: Box::new(run), is_complete: true });
        }
    }
    let pipeline = Library::standard()
        .pipeline(case.pipeline)
        .map_err(|errors| anyhow::anyhow!("the pipeline of `{}` does not compose: {errors:?}", case.name))?;
    for (name, backend) in
        [(AUTO, Backend::Auto), ("cranelift", Backend::Cranelift), ("native", Backend::Native)]
    {
        let engine = match pipeline.compile_with(&CompileOptions { backend, ..CompileOptions::default() }) {
            Ok(engine) => engine,
            Err(error) if backend == Backend::Auto => return Err(error.into()),
            // Not there yet, or not for this machine: not in the table either.
            Err(_) => continue,
        };
        let exports: Vec<usize> = case.exports.iter().filter_map(|name| engine.export_index(name)).collect();
        anyhow::ensure!(exports.len() == case.exports.len(), "`{}` lacks an export", case.pipeline);
        let run = move |src: &[u8], dst: &mut [u8]| {
            let run = engine.run(src, dst).expect("equal lengths, a multiple of the gauge");
            // As values, like those of the rivals: a list filled in memory word by word and then read as a whole waits
            // for the stores, longer than a short transfer takes.
            let value = |index| exports.get(index).map_or(0, |&export| run.value(export) as u32);
            [value(0), value(1)]
        };
        list.push(Contender { name: name.into(), run: Box::new(run), is_complete: true });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::CASES;

    #[test]
    fn all_contenders_of_a_case_agree() {
        for case in &CASES {
            let list = contenders(case).unwrap();
            assert!(list.iter().any(|contender| contender.name == AUTO));
            for len in [0, 4, 64, 252, 1460, 4096, 20_000] {
                let src: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8 ^ 0x80).collect();
                let mut expected = None;
                for contender in list.iter().filter(|contender| contender.is_complete) {
                    let mut dst = vec![0; len];
                    let sums = (contender.run)(&src, &mut dst);
                    // Of an empty stream a blocked pass reports nothing, where a CRC is 0 too.
                    let (known_dst, known_sums) = expected.get_or_insert_with(|| (dst.clone(), sums));
                    assert_eq!(
                        (&dst, &sums),
                        (&*known_dst, &*known_sums),
                        "{}, {len}: {}",
                        case.name,
                        contender.name
                    );
                }
            }
        }
    }
}
