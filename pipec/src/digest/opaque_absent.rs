//! Without the feature `digests` there are none but those of pipes.

/// Behind the names of digests: why the usual ones are missing.
pub(super) const NOTE: &str = " (this `pipec` was built without its feature `digests`)";

/// One of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {}

impl Kind {
    pub(crate) const ALL: &[Kind] = &[];

    pub(crate) const fn name(self) -> &'static str {
        match self {}
    }

    pub(crate) const fn tag(self) -> &'static str {
        match self {}
    }

    pub(crate) const fn bytes(self) -> usize {
        match self {}
    }

    pub(crate) fn start(self) -> State {
        match self {}
    }
}

/// Under way: never.
pub(crate) enum State {}

impl State {
    pub(crate) fn update(&mut self, _block: &[u8]) {
        match *self {}
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        match self {}
    }
}
