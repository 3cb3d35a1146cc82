//! What two servers that are compared differ in, and what they are asked for.

use std::fmt;
use std::str::FromStr;

use crate::cmd::features::Feature;

/// Where what is asked for comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ContentSource {
    /// An image in memory.
    #[default]
    Memory,
    /// A file, of which the cache holds a part, and what comes into it is checked.
    Cold,
    /// A program behind the server.
    Program,
}

/// A difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Varied {
    /// `--without` it.
    Feature(Feature),
    /// Pages are compared with their sums, in a pass of its own, when they come from the file (`--verify`).
    Verify,
    /// A program's output lies in memory that it shares with the server; without, it comes through a socket
    /// by FastCGI.
    SharedOutput,
}

impl Varied {
    /// What is varied if nobody says.
    pub(super) fn of(content: ContentSource) -> Vec<Varied> {
        let features = Feature::ALL.into_iter().map(Varied::Feature);
        match content {
            ContentSource::Memory => features.collect(),
            ContentSource::Cold => features.chain([Varied::Verify]).collect(),
            ContentSource::Program => {
                let for_output = [Feature::FusedLoops, Feature::FrameSealing, Feature::CachedSums];
                let features = for_output.into_iter().map(Varied::Feature);
                std::iter::once(Varied::SharedOutput).chain(features).collect()
            }
        }
    }

    /// As it is written on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Varied::Feature(feature) => feature.name(),
            Varied::Verify => "verify",
            Varied::SharedOutput => "shared-output",
        }
    }
}

impl From<Feature> for Varied {
    fn from(feature: Feature) -> Varied {
        Varied::Feature(feature)
    }
}

impl fmt::Display for Varied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Varied {
    type Err = String;

    fn from_str(text: &str) -> Result<Varied, String> {
        let others = [Varied::Verify, Varied::SharedOutput];
        match others.into_iter().find(|other| other.name() == text) {
            Some(other) => Ok(other),
            None => text
                .parse()
                .map(Varied::Feature)
                .map_err(|error: String| format!("{error}, verify, shared-output")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for content in [ContentSource::Memory, ContentSource::Cold, ContentSource::Program] {
            for varied in Varied::of(content) {
                assert_eq!(varied.name().parse(), Ok(varied));
            }
        }
        assert!("verity".parse::<Varied>().unwrap_err().ends_with("offload, verify, shared-output"));
    }
}
