//! The subcommands, one file each.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod emit;
pub(crate) mod explain;
pub(crate) mod fmt;
pub(crate) mod fuzz;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod run;
pub(crate) mod sum;
pub(crate) mod test;

/// How a subcommand ended when nothing went wrong with the program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// As it should be.
    Fine,
    /// The input was refused, or a check failed; what there is to say has been said.
    Refused,
}

/// What a subcommand gives: an error is one of the program's surroundings, such as a file that cannot be
/// read.
pub(crate) type Outcome = anyhow::Result<Status>;
