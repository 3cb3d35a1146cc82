//! Digests of other crates between the compiled passes.
//!
//! A digest sees the stream as the stages that write and stand before it left it. Before the first of these
//! it looks at the source, behind the last one at the destination, and wherever it stands between them, the
//! stages around it become passes of their own.

use super::{Made, PassPlan};
use crate::analyse::Analysed;
use crate::backend::PassCode;
use crate::compose::{Composition, Stage};
use crate::digest::DigestKind;
use crate::error::Unsupported;
use crate::options::{Backend, CompileOptions};
use crate::plan::{Pass, Plan};

/// Stages that are compiled together, and the digests that run before them: by their places in the
/// composition.
#[derive(Debug, Default, PartialEq, Eq)]
struct Segment {
    digests: Vec<usize>,
    stages: Vec<usize>,
}

/// [`super::select`] of a composition with digests in it.
pub(super) fn select(
    composition: &Composition,
    options: &CompileOptions,
) -> Result<(Plan, Vec<Made>), Unsupported> {
    let (mut passes, mut made) = (Vec::new(), Vec::new());
    for Segment { digests, stages } in segments(&composition.stages) {
        for index in digests {
            let stage = &composition.stages[index];
            let Some(kind) = stage.pipe.digest else { continue };
            passes.push(Pass { stages: vec![index], gauge: 1 });
            made.push(Made::digest(kind, stage, options.backend));
        }
        if stages.is_empty() {
            continue;
        }
        // Its ends are the driver's: several passes go by way of blocks.
        let part = Composition {
            stages: stages.iter().map(|&index| composition.stages[index].clone()).collect(),
            ..Composition::default()
        };
        let (plan, code) = super::select(&part, options)?;
        passes.extend(plan.passes.into_iter().map(|mut pass| {
            pass.stages.iter_mut().for_each(|index| *index = stages[*index]);
            pass
        }));
        made.extend(code);
    }
    Ok((Plan { passes }, made))
}

/// In the order in which they run. Digests that see the same bytes stand together, as far to either end as
/// that is so.
fn segments(stages: &[Stage]) -> Vec<Segment> {
    let writes = |stage: &Stage| stage.pipe.out.is_some();
    let all = stages.iter().filter(|stage| writes(stage)).count();
    let mut segments = vec![Segment::default()];
    let mut last = Segment::default();
    let (mut version, mut cut) = (0, 0);
    for (index, stage) in stages.iter().enumerate() {
        let open = segments.len() - 1;
        if stage.pipe.digest.is_none() {
            segments[open].stages.push(index);
            version += usize::from(writes(stage));
        } else if version == all && version > 0 {
            last.digests.push(index);
        } else if version == cut {
            segments[open].digests.push(index);
        } else {
            segments.push(Segment { digests: vec![index], stages: Vec::new() });
            cut = version;
        }
    }
    segments.push(last);
    segments
}

impl Made {
    fn digest(kind: DigestKind, stage: &Stage, backend: Backend) -> Made {
        Made {
            backend,
            code: Box::new(NoCode),
            plan: PassPlan::Digest(kind),
            rewritten: None,
            stages: Analysed::all(std::iter::once(&stage.pipe)).into(),
        }
    }
}

/// In place of the code of a pass that the driver runs itself.
struct NoCode;

impl PassCode for NoCode {
    unsafe fn run(&self, _states: *mut u64, _pos: u64, _src: *const u8, _dst: *mut u8, _len: usize) {
        debug_assert!(false, "a digest has no code");
    }
}

#[cfg(test)]
mod tests {
    use super::segments;
    use crate::Library;

    #[test]
    #[cfg(feature = "digests")]
    fn digests_stand_where_they_cost_no_cut() {
        let library = Library::standard();
        let cut = |text: &str| {
            let pipeline = library.pipeline(text).unwrap();
            let part = |part: super::Segment| (part.digests, part.stages);
            segments(&pipeline.composition().stages).into_iter().map(part).collect::<Vec<_>>()
        };
        // Nobody writes before it: the source is what it sees.
        assert_eq!(cut("crc32c | sha256 | byteswap32"), [(vec![1], vec![0, 2]), (vec![], vec![])]);
        // Nobody writes behind it.
        assert_eq!(cut("byteswap32 | sha256 | crc32c"), [(vec![], vec![0, 2]), (vec![1], vec![])]);
        // Between two that write.
        let between = cut("byteswap32 | crc32 | sha256 | crc32c | md5 | xor8(key=1) | sha1");
        assert_eq!(between, [(vec![], vec![0, 1]), (vec![2, 4], vec![3, 5]), (vec![6], vec![])]);
        assert_eq!(cut("sha256 | md5"), [(vec![0, 1], vec![]), (vec![], vec![])]);
        assert!(segments(&[]).iter().all(|part| part.stages.is_empty() && part.digests.is_empty()));
    }
}
