//! What source text may ask for. Pipes come from outside, so each stage of the front end is bounded by these,
//! and says so (`E0010`) instead of taking more time or memory.

/// Bytes of one source file.
pub const SOURCE_BYTES: usize = 1 << 20;
/// Tokens of one source file.
pub const TOKENS: usize = 300_000;
/// Bytes of one name.
pub const NAME_BYTES: usize = 128;
/// Errors reported of one file, where parsing stops, and warnings, which stop nothing.
pub const DIAGNOSTICS: usize = 64;
/// Items of one file.
pub const ITEMS: usize = 4096;
/// Instructions of one pipe, constants included.
pub const INSTRUCTIONS: usize = 4096;
/// States of one pipe.
pub const STATES: usize = 64;
/// Parameters of one pipe or pipeline.
pub const PARAMS: usize = 64;
/// Fields of a frame before or behind its data, and terms of one field.
pub const FIELDS: usize = 64;
/// Tables of one pipe.
pub const TABLES: usize = 16;
/// Exports of one pipe.
pub const EXPORTS: usize = 64;
/// Elements of one table.
pub const TABLE_ELEMENTS: usize = 1 << 16;
/// Elements of all tables of one file, repetitions unfolded.
pub const FILE_TABLE_ELEMENTS: usize = 1 << 19;
/// Stages of one pipeline, spliced pipelines unfolded.
pub const STAGES: usize = 256;
/// Depth to which pipelines may be spliced into each other.
pub const SPLICE_DEPTH: usize = 32;
/// Instances that checking all pipelines and tests of one file may unfold. A big one counts as several.
pub const FILE_STAGES: usize = 1 << 14;
/// An instance with arguments of its own counts once more for so many instructions, which are copied for it.
pub const INSTANCE_INSTRUCTIONS: usize = 16;
/// Bytes of a test's input or output, repetitions unfolded.
pub const TEST_BYTES: u64 = 1 << 24;
/// Files taken up by `use`, directly or not.
pub const FILES: usize = 256;
