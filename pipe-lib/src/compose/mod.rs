//! Composition: instances of pipes in stream order, between two layouts. Nothing is fused yet: this is what
//! the interpreter runs and what the planner starts from.

pub(crate) mod frames;

use crate::ir::verify::{VerifyError, verify};
use crate::ir::{Frame, Layout, Op, Pipe, StateInit, Ty};
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

/// One instance of a pipe in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Instance name, unique in the composition; prefix of its exports and states (`name.register`).
    pub name: String,
    /// The pipe, all parameters bound (no `Op::Param`, no `StateInit::Param`, `params` empty).
    pub pipe: Arc<Pipe>,
    /// Bytes after which state, phase and tail rule start anew, and each export gains an entry.
    pub window: Option<NonZeroU64>,
}

/// Stages from left to right, with the device rules at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Composition {
    /// In stream order; may be empty (a plain copy).
    pub stages: Vec<Stage>,
    /// Rules of the buffer that is read; `None` for contiguous memory.
    pub source: Option<Arc<Layout>>,
    /// Rules of the buffer that is written; `None` for contiguous memory.
    pub sink: Option<Arc<Layout>>,
    /// Fields that are taken out of what is read, and compared; all parameters with a value.
    pub source_frame: Option<Arc<Frame>>,
    /// Fields that are put into what is written; likewise.
    pub sink_frame: Option<Arc<Frame>>,
}

impl Composition {
    /// Bytes of one loop word: the least common multiple of the stages' words (powers of two up to 8, so the
    /// largest); 1 without stages.
    pub fn gauge(&self) -> usize {
        self.stages.iter().map(|stage| stage.pipe.word_bytes()).max().unwrap_or(1)
    }

    /// Whether some stage writes words.
    pub fn modifies(&self) -> bool {
        self.stages.iter().any(|stage| stage.pipe.out.is_some())
    }

    /// Checks what every later step relies on: well-formed pipes with all parameters bound, unique names,
    /// sane layouts.
    pub fn validate(&self) -> Result<(), ComposeError> {
        if self.stages.len() > MAX_STAGES {
            return Err(ComposeError::TooManyStages { stages: self.stages.len() });
        }
        for (index, stage) in self.stages.iter().enumerate() {
            if let Some(param) = stage.pipe.params.first() {
                return Err(ComposeError::Unbound {
                    instance: stage.name.clone(),
                    param: param.name.clone(),
                });
            }
            if self.stages[..index].iter().any(|other| other.name == stage.name) {
                return Err(ComposeError::NameClash { name: stage.name.clone() });
            }
            verify(&stage.pipe).map_err(ComposeError::Malformed)?;
        }
        for (layout, is_source) in [(&self.source, true), (&self.sink, false)] {
            if let Some(layout) = layout {
                validate_layout(layout, is_source)?;
            }
        }
        frames::validate(self)
    }

    /// The frames at the start and at the end, if there are such.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.source_frame.iter().chain(&self.sink_frame)
    }
}

/// Every stage with its instance's name and window, in the IR's textual form, between the layouts.
impl fmt::Display for Composition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            writeln!(f, "from {source}\n")?;
        }
        if let Some(frame) = &self.source_frame {
            writeln!(f, "from {frame}\n")?;
        }
        for (at, stage) in self.stages.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "stage {}", stage.name)?;
            match stage.window {
                Some(window) => writeln!(f, " per {window}")?,
                None => writeln!(f)?,
            }
            write!(f, "{}", stage.pipe)?;
        }
        if let Some(sink) = &self.sink {
            writeln!(f, "\nto {sink}")?;
        }
        if let Some(frame) = &self.sink_frame {
            writeln!(f, "\nto {frame}")?;
        }
        Ok(())
    }
}

/// Most stages in one composition: bounds what composing and compiling may cost.
pub const MAX_STAGES: usize = 256;

fn validate_layout(layout: &Layout, is_source: bool) -> Result<(), ComposeError> {
    let refuse =
        |what: &str| Err(ComposeError::Layout { layout: layout.name.clone(), what: what.to_owned() });
    if layout.stripe.is_some_and(|stripe| stripe.data == 0) {
        return refuse("a stripe has at least one byte of data");
    }
    if let Some(store) = layout.store {
        if !matches!(store, 1 | 2 | 4 | 8) {
            return refuse("an access is 1, 2, 4 or 8 bytes wide");
        }
        let fits = |bytes: u32| bytes.is_multiple_of(u32::from(store));
        if layout.stripe.is_some_and(|stripe| !fits(stripe.data) || !fits(stripe.gap)) {
            return refuse("stripes are no multiple of the access width");
        }
    }
    if layout.fixed && layout.stripe.is_some() {
        return refuse("`fixed` and stripes exclude each other");
    }
    if layout.fixed && layout.store.is_none() {
        return refuse("`fixed` needs an access width (`store N`)");
    }
    if is_source && layout.pad != 0 {
        return refuse("`pad` has no meaning for a source");
    }
    if layout.pad > MAX_PAD {
        return refuse("`pad` is more than 16 MiB");
    }
    Ok(())
}

/// Largest `pad` of a layout.
pub const MAX_PAD: u64 = 16 << 20;

/// Why stages do not make a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComposeError {
    /// A parameter without default was not given a value.
    Unbound {
        /// The instance.
        instance: String,
        /// The parameter's name.
        param: String,
    },
    /// A value was given for a parameter that the pipe does not have.
    NoSuchParam {
        /// The pipe.
        pipe: String,
        /// The name given.
        param: String,
    },
    /// A value was given twice for one parameter.
    DuplicateArgument {
        /// The pipe.
        pipe: String,
        /// The parameter's name.
        param: String,
    },
    /// The value does not fit the parameter's type.
    ValueTooWide {
        /// The pipe.
        pipe: String,
        /// The parameter's name.
        param: String,
        /// The value given.
        value: u64,
        /// The parameter's type.
        ty: Ty,
    },
    /// Two instances of one name.
    NameClash {
        /// The name.
        name: String,
    },
    /// More than [`MAX_STAGES`].
    TooManyStages {
        /// How many there are.
        stages: usize,
    },
    /// A pipe that breaks the rules of the IR.
    Malformed(VerifyError),
    /// A layout that makes no sense at its place.
    Layout {
        /// The layout's name.
        layout: String,
        /// Why, as a sentence without full stop.
        what: String,
    },
    /// A frame whose fields this pipeline has no results for.
    Frame {
        /// The frame's name.
        frame: String,
        /// Why, as a sentence without full stop, and what to write instead.
        what: String,
    },
    /// A frame whose field takes a digest for a number, a number for a digest, or more bytes than a digest
    /// has.
    Digest {
        /// The frame's name.
        frame: String,
        /// Why, as a sentence without full stop, and what to write instead.
        what: String,
    },
}

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ComposeError::Unbound { instance, param } => {
                write!(f, "`{instance}` needs a value for its parameter `{param}`")
            }
            ComposeError::NoSuchParam { pipe, param } => write!(f, "`{pipe}` has no parameter `{param}`"),
            ComposeError::DuplicateArgument { pipe, param } => {
                write!(f, "parameter `{param}` of `{pipe}` is given twice")
            }
            ComposeError::ValueTooWide { pipe, param, value, ty } => {
                write!(f, "{value:#x} does not fit parameter `{param}: {ty}` of `{pipe}`")
            }
            ComposeError::NameClash { name } => write!(f, "two instances are named `{name}`"),
            ComposeError::TooManyStages { stages } => {
                write!(f, "{stages} stages in one pipeline; the most is {MAX_STAGES}")
            }
            ComposeError::Malformed(_) => f.write_str("a pipe breaks the rules of the intermediate form"),
            ComposeError::Layout { layout, what } => write!(f, "layout `{layout}`: {what}"),
            ComposeError::Frame { frame, what } | ComposeError::Digest { frame, what } => {
                write!(f, "frame `{frame}`: {what}")
            }
        }
    }
}

impl core::error::Error for ComposeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ComposeError::Malformed(error) => Some(error),
            _ => None,
        }
    }
}

/// Puts stages together, binding parameters and naming instances.
///
/// ```
/// # use pipe_lib::{compose::Composer, ir::builder::PipeBuilder, ir::*};
/// # use std::sync::Arc;
/// # let b = PipeBuilder::new("tap", Gauge::U8);
/// # let tap = Arc::new(b.finish().unwrap());
/// let composition = Composer::new().stage(&tap, Some("plain"), &[], None)?.stage(&tap, None, &[], None)?.finish()?;
/// assert_eq!(composition.stages[0].name, "plain");
/// # Ok::<(), pipe_lib::compose::ComposeError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Composer {
    composition: Composition,
}

impl Composer {
    /// A composition without stages: a plain copy.
    pub fn new() -> Composer {
        Composer::default()
    }

    /// Appends an instance of `pipe` with its parameters bound to `args` (or to their defaults).
    ///
    /// Without `name` it bears the pipe's name, made unique by `_2`, `_3`, ... `window` is the `per N` of the
    /// language.
    pub fn stage(
        mut self,
        pipe: &Arc<Pipe>,
        name: Option<&str>,
        args: &[(&str, u64)],
        window: Option<NonZeroU64>,
    ) -> Result<Composer, ComposeError> {
        let name = match name {
            Some(name) if self.is_taken(name) => {
                return Err(ComposeError::NameClash { name: name.to_owned() });
            }
            Some(name) => name.to_owned(),
            None => self.free_name(&pipe.name),
        };
        let pipe = bind(pipe, args, &name)?;
        self.composition.stages.push(Stage { name, pipe, window });
        Ok(self)
    }

    /// Appends the stages of another composition, their names prefixed by `prefix.` if one is given. The
    /// inner composition's layouts are taken over only where this one has none yet.
    pub fn splice(mut self, inner: &Composition, prefix: Option<&str>) -> Result<Composer, ComposeError> {
        for stage in &inner.stages {
            let name = match prefix {
                Some(prefix) => format!("{prefix}.{}", stage.name),
                None => stage.name.clone(),
            };
            if self.is_taken(&name) {
                return Err(ComposeError::NameClash { name });
            }
            self.composition.stages.push(Stage { name, ..stage.clone() });
        }
        let Composition { source, sink, source_frame, sink_frame, .. } = &mut self.composition;
        *source = source.take().or_else(|| inner.source.clone());
        *sink = sink.take().or_else(|| inner.sink.clone());
        *source_frame = source_frame.take().or_else(|| inner.source_frame.clone());
        *sink_frame = sink_frame.take().or_else(|| inner.sink_frame.clone());
        Ok(self)
    }

    /// Starts the pipeline from a device's buffer (`layout -> ...`).
    #[must_use]
    pub fn source(mut self, layout: Arc<Layout>) -> Composer {
        self.composition.source = Some(layout);
        self
    }

    /// Ends the pipeline in a device's buffer (`... -> layout`).
    #[must_use]
    pub fn sink(mut self, layout: Arc<Layout>) -> Composer {
        self.composition.sink = Some(layout);
        self
    }

    /// Starts the pipeline by taking out, and comparing, the fields of a frame (`frame -> ...`).
    /// Parameters are bound to `args`, or to their defaults.
    pub fn source_frame(mut self, frame: &Frame, args: &[(&str, u64)]) -> Result<Composer, ComposeError> {
        self.composition.source_frame = Some(Arc::new(frames::bind(frame, args, &frame.name)?));
        Ok(self)
    }

    /// Ends the pipeline by putting the fields of a frame between the data (`... -> frame`). Where the other
    /// end has a frame of that name, this one is called `name_2`.
    pub fn sink_frame(mut self, frame: &Frame, args: &[(&str, u64)]) -> Result<Composer, ComposeError> {
        let taken = self.composition.source_frame.as_ref().is_some_and(|other| other.name == frame.name);
        let name = if taken { format!("{}_2", frame.name) } else { frame.name.clone() };
        self.composition.sink_frame = Some(Arc::new(frames::bind(frame, args, &name)?));
        Ok(self)
    }

    /// The composition, checked.
    pub fn finish(self) -> Result<Composition, ComposeError> {
        self.composition.validate()?;
        Ok(self.composition)
    }

    fn is_taken(&self, name: &str) -> bool {
        self.composition.stages.iter().any(|stage| stage.name == name)
    }

    fn free_name(&self, base: &str) -> String {
        if !self.is_taken(base) {
            return base.to_owned();
        }
        // At most one more candidate than there are stages.
        (2..).map(|n| format!("{base}_{n}")).find(|name| !self.is_taken(name)).unwrap_or_default()
    }
}

/// Binds all parameters of `pipe`: each `Op::Param` becomes a constant. Shares the pipe if it has none.
///
/// `instance` is the name used in the error for a parameter that has neither value nor default.
pub fn bind(pipe: &Arc<Pipe>, args: &[(&str, u64)], instance: &str) -> Result<Arc<Pipe>, ComposeError> {
    for (index, &(name, value)) in args.iter().enumerate() {
        let Some(param) = pipe.params.iter().find(|param| param.name == name) else {
            return Err(ComposeError::NoSuchParam { pipe: pipe.name.clone(), param: name.to_owned() });
        };
        if args[..index].iter().any(|other| other.0 == name) {
            return Err(ComposeError::DuplicateArgument { pipe: pipe.name.clone(), param: name.to_owned() });
        }
        if value & !param.ty.mask() != 0 {
            let (pipe, param, ty) = (pipe.name.clone(), name.to_owned(), param.ty);
            return Err(ComposeError::ValueTooWide { pipe, param, value, ty });
        }
    }
    if pipe.params.is_empty() {
        return Ok(Arc::clone(pipe));
    }
    let mut values = Vec::with_capacity(pipe.params.len());
    for param in &pipe.params {
        let given = args.iter().find(|(name, _)| *name == param.name).map(|(_, value)| *value);
        values.push(given.or(param.default).ok_or_else(|| ComposeError::Unbound {
            instance: instance.to_owned(),
            param: param.name.clone(),
        })?);
    }
    let mut bound = Pipe::clone(pipe);
    bound.params.clear();
    for state in &mut bound.states {
        if let StateInit::Param(id) = state.init {
            state.init = StateInit::Const(values.get(id.0 as usize).copied().unwrap_or_default());
        }
    }
    for block in [&mut bound.body, &mut bound.finish] {
        for inst in &mut block.insts {
            if let Op::Param(id) = inst.op {
                inst.op = Op::Const(values.get(id.0 as usize).copied().unwrap_or_default());
            }
        }
    }
    Ok(Arc::new(bound))
}
