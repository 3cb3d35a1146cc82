//! Frames at the ends of a composition: parameters bound, results found, and cuts that go through no word.

use super::{ComposeError, Composition, Stage};
use crate::ir::frame::{MAX_FIELD_BYTES, Term};
use crate::ir::{Field, Frame, Ty};
use std::num::NonZeroU64;

/// The frame as an instance called `name`: every parameter gets a value, which a run may change.
pub(crate) fn bind(frame: &Frame, args: &[(&str, u64)], name: &str) -> Result<Frame, ComposeError> {
    let mut bound = Frame { name: name.to_owned(), ..frame.clone() };
    for (index, &(param, value)) in args.iter().enumerate() {
        let Some(known) = bound.params.iter_mut().find(|known| known.name == param) else {
            return Err(ComposeError::NoSuchParam { pipe: frame.name.clone(), param: param.to_owned() });
        };
        if args[..index].iter().any(|other| other.0 == param) {
            return Err(ComposeError::DuplicateArgument {
                pipe: frame.name.clone(),
                param: param.to_owned(),
            });
        }
        if value & !known.ty.mask() != 0 {
            let (pipe, param, ty) = (frame.name.clone(), param.to_owned(), known.ty);
            return Err(ComposeError::ValueTooWide { pipe, param, value, ty });
        }
        known.default = Some(value);
    }
    match bound.params.iter().find(|param| param.default.is_none()) {
        Some(param) => Err(ComposeError::Unbound { instance: name.to_owned(), param: param.name.clone() }),
        None => Ok(bound),
    }
}

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Index of the stage.
    pub(crate) stage: usize,
    /// Index of the export among those of its pipe.
    pub(crate) export: usize,
    pub(crate) ty: Ty,
}

/// Which end of the pipeline a frame is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Sink,
}

/// The export that a field of the frame at that end means by `name`: `instance.export`, `pipe.export` or
/// `export`, of the stage nearest to that end.
pub(crate) fn find_export(stages: &[Stage], end: End, name: &str) -> Option<Found> {
    let all = || {
        stages.iter().enumerate().flat_map(|(at, stage)| {
            let exports = stage.pipe.exports.iter().enumerate();
            exports.map(move |(number, export)| {
                let found = Found { stage: at, export: number, ty: stage.pipe.finish.ty(export.value) };
                (stage, export.name.as_str(), found)
            })
        })
    };
    let is = |owner: &str, export: &str| {
        name.strip_prefix(owner).and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| rest == export)
    };
    let meant = |(stage, export, _): &(&Stage, &str, Found)| {
        is(&stage.name, export) || is(&stage.pipe.name, export) || *export == name
    };
    let found = match end {
        End::Source => all().find(meant),
        End::Sink => all().rfind(meant),
    };
    found.map(|(_, _, found)| found)
}

/// Checks the frames of a composition whose stages are in order.
pub(super) fn validate(composition: &Composition) -> Result<(), ComposeError> {
    let ends = [(&composition.source_frame, End::Source), (&composition.sink_frame, End::Sink)];
    for (frame, end) in ends {
        let Some(frame) = frame else { continue };
        let refuse = |what: String| Err(ComposeError::Frame { frame: frame.name.clone(), what });
        let refuse_digest = |what: String| Err(ComposeError::Digest { frame: frame.name.clone(), what });
        if let Some(param) = frame.params.iter().find(|param| param.default.is_none()) {
            let (instance, param) = (frame.name.clone(), param.name.clone());
            return Err(ComposeError::Unbound { instance, param });
        }
        if composition.stages.iter().any(|stage| stage.name == frame.name) {
            return Err(ComposeError::NameClash { name: frame.name.clone() });
        }
        if let Some(layout) = composition.source.as_ref().or(composition.sink.as_ref()) {
            return refuse(format!(
                "layout `{}` at the other end; run the two one after the other, with memory between them",
                layout.name
            ));
        }
        if frame.head_bytes() > MAX_FIELD_BYTES || frame.foot_bytes() > MAX_FIELD_BYTES {
            return refuse(format!("more than {MAX_FIELD_BYTES} bytes of fields before or behind the data"));
        }
        for field in frame.head.iter().chain(&frame.foot) {
            let exports: Vec<&String> = match field {
                Field::Put { sum, .. } => sum
                    .iter()
                    .filter_map(|term| if let Term::Export(name) = term { Some(name) } else { None })
                    .collect(),
                Field::Digest { export, .. } => vec![export],
                Field::Gap(_) | Field::Bytes(_) => continue,
            };
            for name in exports {
                let Some(found) = find_export(&composition.stages, end, name) else {
                    return refuse(no_export(composition, name));
                };
                let stage = &composition.stages[found.stage];
                if stage.window != frame.data {
                    return refuse(wrong_window(stage, name, frame.data));
                }
                match (field, stage.pipe.digest) {
                    (Field::Digest { bytes, .. }, Some(kind)) if *bytes as usize <= kind.bytes() => {}
                    (Field::Digest { bytes, .. }, Some(kind)) => {
                        return refuse_digest(format!(
                            "`{name}` has {} bytes, fewer than `bytes{bytes}`",
                            kind.bytes()
                        ));
                    }
                    (Field::Digest { .. }, None) => {
                        return refuse_digest(format!(
                            "`{name}` is a number; write `put u32be {name}`, or another width"
                        ));
                    }
                    (_, Some(kind)) => {
                        let bytes = kind.bytes();
                        return refuse_digest(format!(
                            "`{name}` is a digest; write `put bytes{bytes} {name}`"
                        ));
                    }
                    (Field::Put { gauge, .. }, None) if found.ty.bits() > gauge.ty.bits() => {
                        return refuse(format!("`{name}` is `{}`, more than `{gauge}` holds", found.ty));
                    }
                    _ => {}
                }
            }
        }
        if let Some(data) = frame.data
            && let Some(stage) = composition.stages.iter().find(|stage| straddles(stage, data))
        {
            let word = stage.pipe.word_bytes();
            return refuse(format!(
                "`{}` takes words of {word} bytes, which {data} bytes of data cut; let `data` be a multiple of \
                 its words and of its window, or its window a part of `data`",
                stage.name
            ));
        }
    }
    match (&composition.source_frame, &composition.sink_frame) {
        (Some(one), Some(other)) if one.name == other.name => {
            Err(ComposeError::NameClash { name: one.name.clone() })
        }
        _ => Ok(()),
    }
}

/// Whether a cut behind every `data` bytes may go through a word of the stage.
fn straddles(stage: &Stage, data: NonZeroU64) -> bool {
    let (word, data) = (stage.pipe.word_bytes() as u64, data.get());
    let whole = |bytes: u64| bytes.is_multiple_of(word);
    match stage.window.map(NonZeroU64::get) {
        None => !whole(data),
        Some(window) => !(data.is_multiple_of(window) || whole(data) && whole(window)),
    }
}

fn no_export(composition: &Composition, name: &str) -> String {
    let exports = composition.stages.iter().flat_map(|stage| {
        stage.pipe.exports.iter().map(move |export| format!("`{}.{}`", stage.name, export.name))
    });
    let exports: Vec<String> = exports.take(8).collect();
    if exports.is_empty() {
        format!("no export `{name}`, nor any other; write the pipe that gives it before the arrow")
    } else {
        format!("no export `{name}`; there is {}", exports.join(", "))
    }
}

fn wrong_window(stage: &Stage, name: &str, data: Option<NonZeroU64>) -> String {
    match data {
        Some(data) => {
            format!("`{name}` is wanted for every {data} bytes; write `{} per {data}`", stage.pipe.name)
        }
        None => format!(
            "`{name}` is wanted for the whole stream; leave out the window of `{}`, or give it to `data`",
            stage.name
        ),
    }
}
