//! What the compiler has to say to people: plain data with stable codes; rendering is the caller's.

use crate::source::{Source, Sources, Span};
use std::fmt;

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $title:literal;)+) => {
        /// The registry of diagnostic codes. A code keeps its meaning for ever and is never given to another.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = concat!("`", $code, "`: ", $title, ".")] $(#[$meta])* $name,)+ }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &[Code] = &[$(Code::$name,)+];

            /// The code as people see it: `E` and four digits for an error, `W` for a warning.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => $code,)+ }
            }

            /// What the code stands for, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)+ }
            }

            /// The code's page of the documentation (Markdown): what it means, an example, and what to write
            /// instead.
            pub const fn page(self) -> &'static str {
                match self {
                    $(Code::$name => include_str!(concat!("../../docs/diagnostics/", $code, ".md")),)+
                }
            }
        }
    };
}

codes! {
    UnknownCharacter = "E0001", "a character that the language does not use";
    BadNumber = "E0002", "a malformed number, or one beyond 64 bits";
    BadString = "E0003", "a string or character without end, or with an unknown escape";
    BadHexString = "E0004", "a hexadecimal string that is not made of pairs of digits";
    Limit = "E0010", "more than the compiler takes";
    UnexpectedToken = "E0101", "text that does not fit the grammar here";
    UnexpectedEnd = "E0102", "the text ends in the middle of something";
    DuplicateItem = "E0201", "a second item of the same name";
    UnknownInstruction = "E0202", "no such instruction";
    UnknownRegister = "E0203", "a register is read that holds nothing yet";
    UnknownType = "E0204", "no such type";
    UnknownGauge = "E0205", "no such gauge";
    UnknownTail = "E0206", "no such tail rule";
    UnknownAttribute = "E0207", "no such attribute, or one given twice";
    UnknownTable = "E0208", "no such table";
    DuplicateRegister = "E0209", "two declarations of one name in a pipe";
    NotWritable = "E0210", "the destination cannot be written";
    UnknownExport = "E0211", "an export of something that is not known at the end";
    DuplicateExport = "E0212", "two exports of one name";
    TypeMismatch = "E0301", "operands of different types";
    UnknownOperandType = "E0302", "nothing says which type this has";
    LiteralOutOfRange = "E0303", "a number that its type cannot hold";
    OperandCount = "E0304", "too many or too few operands";
    BadConversion = "E0305", "a conversion in the wrong direction";
    WrongKind = "E0306", "an instruction that does not take this type";
    GaugeSizes = "E0307", "input and output words of different sizes";
    BadTable = "E0308", "a table that cannot be indexed in bounds";
    BadSuffix = "E0309", "a type suffix where none can be";
    Twice = "E0401", "something that a pipe does at most once";
    NotHere = "E0402", "a statement that has no meaning in this block";
    NoOutput = "E0403", "an output gauge without an `out`";
    BadLayout = "E0501", "rules of a layout that cannot be followed";
    BadFrame = "E0502", "fields of a frame that cannot be made";
    FrameResult = "E0503", "a frame's field without a result to hold";
    DigestBytes = "E0504", "a digest where a number is meant, or the other way round";
    UnknownStage = "E0601", "no such pipe or pipeline";
    UnknownParameter = "E0602", "no such parameter";
    MissingParameter = "E0603", "a parameter without a value";
    DuplicateArgument = "E0604", "an argument given twice, or out of order";
    InstanceClash = "E0605", "two instances of one name";
    LayoutPosition = "E0606", "a layout anywhere but at an end of the pipeline";
    RecursivePipeline = "E0607", "a pipeline that contains itself";
    BadWindow = "E0608", "a window that cannot be";
    EmptyPipeline = "E0609", "a pipeline that does nothing";
    BadTest = "E0701", "a test that cannot be run";
    CannotUse = "E0801", "a file that cannot be taken up";
    AttributeRefuted = "E0901", "a declared attribute that does not hold";
    UnusedRegister = "W0101", "a register that is written and never read";
    UnusedParameter = "W0102", "a parameter that is never read";
    UnusedTable = "W0103", "a table in which nothing is looked up";
    ByHand = "W0201", "an instruction written out by hand";
}

impl Code {
    /// The code of that name (`E0203`).
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name().eq_ignore_ascii_case(name))
    }

    /// Whether the code stops compilation.
    pub fn severity(self) -> Severity {
        if self.name().starts_with('W') { Severity::Warning } else { Severity::Error }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Warning,
    /// Nothing can be made of the source.
    Error,
}

/// A remark on a place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The remark; may be empty.
    pub text: String,
}

/// One thing to say: what, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// From the registry.
    pub code: Code,
    /// One sentence without a full stop.
    pub message: String,
    /// Places; the first is where it went wrong, the others are what it clashes with.
    pub labels: Vec<Label>,
    /// Facts that explain the message.
    pub notes: Vec<String>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A diagnostic about one place.
    pub fn new(code: Code, span: Span, message: impl Into<String>) -> Diagnostic {
        let label = Label { span, text: String::new() };
        Diagnostic { code, message: message.into(), labels: vec![label], notes: Vec::new(), help: None }
    }

    /// Says something at the first place.
    #[must_use]
    pub fn here(mut self, text: impl Into<String>) -> Diagnostic {
        if let Some(label) = self.labels.first_mut() {
            label.text = text.into();
        }
        self
    }

    /// Adds a place.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Diagnostic {
        self.notes.push(text.into());
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help = Some(text.into());
        self
    }

    /// From the code.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// All that was found, with the sources it was found in.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    sources: Sources,
}

impl Diagnostics {
    /// Findings in `sources`, ordered by file and place.
    pub fn new(mut list: Vec<Diagnostic>, sources: Sources) -> Diagnostics {
        list.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span));
        Diagnostics { list, sources }
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity() == Severity::Error)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In the order of the source.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// The files that the spans refer to.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

/// One line each, `file:line:column: error[E0203]: message`, with help and notes below. Made for logs and
/// tests; `pipec` shows source lines.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |span: Span| match self.sources.get(span.file) {
            Some(source) => {
                let (line, column) = Source::line_column(source, span.start as usize);
                format!("{}:{line}:{column}", source.name)
            }
            None => "?".to_string(),
        };
        for (at, diagnostic) in self.list.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            if let Some(first) = diagnostic.labels.first() {
                write!(f, "{}: ", place(first.span))?;
            }
            let severity = match diagnostic.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            write!(f, "{severity}[{}]: {}", diagnostic.code.name(), diagnostic.message)?;
            for label in diagnostic.labels.iter().filter(|label| !label.text.is_empty()) {
                write!(f, "\n  {}: {}", place(label.span), label.text)?;
            }
            for note in &diagnostic.notes {
                write!(f, "\n  note: {note}")?;
            }
            if let Some(help) = &diagnostic.help {
                write!(f, "\n  help: {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate nearest to `name` in spelling, near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const CANDIDATES: usize = 512;
    if name.len() > 32 {
        return None;
    }
    let allowed = match name.chars().count() {
        0..=3 => 1,
        4..=5 => 2,
        _ => 3,
    };
    let near = |candidate: &&'a str| candidate.len() <= 40 && **candidate != *name;
    candidates
        .into_iter()
        .take(CANDIDATES)
        .filter(near)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(far, candidate)| *far <= allowed && *far < candidate.len())
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment) in bytes: good
/// enough for names, which are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut before, mut row): (Vec<usize>, Vec<usize>) = (vec![0; b.len() + 1], (0..=b.len()).collect());
    for i in 0..a.len() {
        let mut next = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let substituted = row[j] + usize::from(a[i] != b[j]);
            next[j + 1] = substituted.min(next[j] + 1).min(row[j + 1] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        (before, row) = (row, next);
    }
    row[b.len()]
}
