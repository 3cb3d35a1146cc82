//! The syntax tree: what was written, with spans, before any name is resolved.
//!
//! Trees compare equal when they say the same: [`Spanned`] leaves its span out of the comparison, which is
//! what "the printer's output parses to the same tree" means.

use crate::source::Span;

/// Something with its place in the source.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// What stands there.
    pub node: T,
    /// Where.
    pub span: Span,
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

/// A name with its place.
pub type Name = Spanned<String>;

/// The start of a grammar: a file, or a pipeline on its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Root {
    /// A `.pipe` file.
    File(File),
    /// `a | b -> c`.
    Pipeline(PipelineExpr),
}

/// A `.pipe` file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// In the order of the source; items that did not parse are left out.
    pub items: Vec<Spanned<Item>>,
}

/// An item with the documentation before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Lines of `///`, without the slashes and one space.
    pub docs: Vec<String>,
    /// What it is.
    pub kind: ItemKind,
}

/// What a file is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemKind {
    /// `use "other.pipe"`
    Use(Spanned<Bytes>),
    /// `table NAME: TYPE = [..]`
    Table(Table),
    /// `pipe NAME(..) : G -> H .. { .. }`
    Pipe(Pipe),
    /// `layout NAME { .. }`
    Layout(Layout),
    /// `frame NAME(..) { .. }`
    Frame(Frame),
    /// `pipeline NAME(..) = a | b`
    Pipeline(Pipeline),
    /// `test PIPELINE "title" { .. }`
    Test(Test),
}

/// A number as spelt, with its value.
#[derive(Clone, Debug)]
pub struct Number {
    /// The spelling, for the printer.
    pub text: String,
    /// The magnitude.
    pub magnitude: u64,
    /// Whether a minus sign stands before it.
    pub negative: bool,
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        (self.magnitude, self.negative) == (other.magnitude, other.negative)
    }
}

/// What may stand for a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A literal number, or a character standing for its byte.
    Number(Number),
    /// `true` or `false`
    Bool(bool),
    /// A register, parameter or table.
    Name(String),
}

/// A string: the bytes it stands for, and how it was spelt.
#[derive(Clone, Debug)]
pub struct Bytes {
    /// The spelling, for the printer.
    pub text: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

/// `x` or `x repeat n`.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeated<T> {
    /// What is repeated.
    pub item: Spanned<T>,
    /// How often; `None` for once.
    pub count: Option<Spanned<Number>>,
}

/// A constant table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: Name,
    /// Type of the elements.
    pub ty: Name,
    /// The elements.
    pub values: Spanned<TableValues>,
}

/// The elements of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum TableValues {
    /// `[1, 2 repeat 3]`
    List(Vec<Repeated<Expr>>),
    /// `"bytes"` or `x"00 ff"`
    Bytes(Bytes),
}

/// A parameter `name: type = default`.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: Name,
    /// Its value when none is given.
    pub default: Option<Spanned<Expr>>,
}

/// An attribute in a pipe's head.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// `tail RULE`
    Tail(Name),
    /// `commutative`, `nomod`
    Flag(Name),
}

/// A pipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipe {
    /// Its name.
    pub name: Name,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Input gauge.
    pub input: Name,
    /// Output gauge, when written.
    pub output: Option<Name>,
    /// Attributes in the order of the source.
    pub attributes: Vec<Attribute>,
    /// Statements that parsed.
    pub body: Vec<Spanned<Stmt>>,
}

/// A statement with the documentation before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// Lines of `///`.
    pub docs: Vec<String>,
    /// What it is.
    pub kind: StmtKind,
}

/// What a pipe is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// `state NAME: TYPE secret = VALUE`
    State {
        /// Its name.
        name: Name,
        /// Its type.
        ty: Name,
        /// `secret`, if that is written; anything else is wrong.
        mark: Option<Name>,
        /// Where it starts; 0 or `false` when left out.
        init: Option<Spanned<Expr>>,
    },
    /// `table NAME: TYPE = [..]`
    Table(Table),
    /// `export NAME` or `export NAME = ..`
    Export {
        /// Its name.
        name: Name,
        /// What it stands for; `None` for the register of that name.
        value: Option<Spanned<ExportSource>>,
    },
    /// `finish { .. }`
    Finish(Vec<Spanned<Stmt>>),
    /// `op d, a, b`
    Inst(Inst),
    /// What could not be read, reported already: its words tell what it may have been about.
    Broken(Vec<Name>),
}

/// What an export stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum ExportSource {
    /// `op a, b`, or the name of a register when there are no operands.
    Inst(Inst),
    /// A literal.
    Literal(Expr),
}

/// An instruction: destination first (none in an export).
#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    /// Its name.
    pub mnemonic: Name,
    /// The type after a dot.
    pub suffix: Option<Name>,
    /// Destination and operands.
    pub operands: Vec<Spanned<Expr>>,
}

/// A layout: names with numbers, checked later.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Its name.
    pub name: Name,
    /// `data 16`, `fixed`, ...
    pub clauses: Vec<LayoutClause>,
}

/// `NAME` or `NAME NUMBER`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutClause {
    /// The rule.
    pub name: Name,
    /// Its number.
    pub value: Option<Spanned<Number>>,
}

/// A frame: fields around data, checked later.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Its name.
    pub name: Name,
    /// Its parameters.
    pub params: Vec<Param>,
    /// In the order of the source, which is theirs in the stream.
    pub fields: Vec<Spanned<FrameField>>,
}

/// What a frame is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameField {
    /// `data 512`, `data`, `gap 4`, `whole`
    Rule {
        /// The rule.
        name: Name,
        /// Its number.
        value: Option<Spanned<Number>>,
    },
    /// `put u32be first + index`
    Put {
        /// Width and order.
        gauge: Name,
        /// What is added up.
        sum: Vec<Spanned<Term>>,
    },
    /// `put x"00" repeat 28`
    Bytes(Repeated<Bytes>),
}

/// Something that a field adds up.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A number.
    Number(Number),
    /// A parameter, `index`, `length`, or an export: `instance.name` or `name`.
    Path(Vec<Name>),
}

/// A named pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Its name.
    pub name: Name,
    /// Its parameters.
    pub params: Vec<Param>,
    /// What it stands for.
    pub value: Spanned<PipelineExpr>,
}

/// Stages between arrows: `layout -> a | b -> layout`. Which of the parts are layouts is known once names
/// are.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineExpr {
    /// At least one part; a part may be empty (`-> lance`).
    pub parts: Vec<Vec<Spanned<Stage>>>,
}

/// `name(args) as instance per window`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Pipe, pipeline or layout.
    pub name: Name,
    /// Arguments, with or without names.
    pub args: Vec<Arg>,
    /// The instance's name.
    pub instance: Option<Name>,
    /// Bytes of a window.
    pub window: Option<Spanned<Expr>>,
}

/// `name = value` or `value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    /// The parameter's name.
    pub name: Option<Name>,
    /// Its value.
    pub value: Spanned<Expr>,
}

/// A test: a pipeline, bytes that go in, and what should come out.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// What is tested.
    pub pipeline: Spanned<PipelineExpr>,
    /// What about it.
    pub title: Option<Spanned<Bytes>>,
    /// In the order of the source.
    pub clauses: Vec<Spanned<TestClause>>,
}

/// What a test is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum TestClause {
    /// `input "bytes" repeat 3 x"00"`
    Input(Vec<Repeated<Bytes>>),
    /// `output ..`
    Output(Vec<Repeated<Bytes>>),
    /// `expect instance.name = 1` or `= [1, 2]`
    Expect {
        /// `name` or `instance.name`, parts between the dots.
        path: Vec<Name>,
        /// What it should be.
        value: Spanned<Expected>,
    },
    /// `set instance.state = 1`
    Set {
        /// `name` or `instance.name`.
        path: Vec<Name>,
        /// What it starts from.
        value: Spanned<Expr>,
    },
    /// `refused`: the input's length is refused.
    Refused,
}

/// What an export should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// A number or `true`, `false`.
    One(Expr),
    /// One a window.
    List(Vec<Repeated<Expr>>),
    /// A digest's bytes; of several windows, one behind the other.
    Bytes(Vec<Repeated<Bytes>>),
}
