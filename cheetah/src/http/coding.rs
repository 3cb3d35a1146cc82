//! Content codings (RFC 9110 section 8.4.1) and which of them a client takes (section 12.5.3).

use smallvec::SmallVec;

/// A content coding that files are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard with other contents as its dictionary (RFC 9842 section 5): for clients that have these.
    Dcz,
    /// Brotli with other contents as its dictionary (section 4), likewise.
    Dcb,
}

impl Coding {
    /// All of them. Of two that a client likes alike and that are equally long, the first is sent.
    pub const ALL: [Coding; 5] = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Dcz, Coding::Dcb];

    /// As `Content-Encoding` and `Accept-Encoding` have it.
    pub fn token(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
            Coding::Dcz => "dcz",
            Coding::Dcb => "dcb",
        }
    }

    /// What the name of a file in this coding ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
            Coding::Dcz => ".dcz",
            Coding::Dcb => ".dcb",
        }
    }

    fn of_token(token: &[u8]) -> Option<Coding> {
        // "x-gzip" is the same (section 8.4.1.3).
        let token =
            token.strip_prefix(b"x-").filter(|rest| rest.eq_ignore_ascii_case(b"gzip")).unwrap_or(token);
        Coding::ALL.into_iter().find(|coding| token.eq_ignore_ascii_case(coding.token().as_bytes()))
    }
}

/// How a client likes a coding, in thousandths: 0 is "not at all".
pub(super) type Quality = u16;

/// The lines of an `Accept-Encoding` field, as they came.
pub type Lines<'a> = SmallVec<[&'a [u8]; 1]>;

/// What a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// By the order of [`Coding::ALL`].
    codings: [Quality; Coding::ALL.len()],
    /// Without a coding. A client that does not speak of it likes it least of all that it takes.
    identity: Quality,
}

/// Not spoken of, and not excluded: behind all that is.
const LEAST: Quality = 0;

impl Accepted {
    /// Reads the field; without it anything goes, and as it is (a client that says nothing may know no
    /// coding). Elements that are malformed say nothing.
    pub fn parse(lines: &[&[u8]]) -> Accepted {
        let (mut codings, mut identity, mut others) = ([None; Coding::ALL.len()], None, None);
        let elements = lines.iter().flat_map(|line| line.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
        for element in elements.filter(|element| !element.is_empty()) {
            let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let token = parts.next().unwrap_or_default();
            let Some(quality) = parts.next().map_or(Some(1000), quality) else { continue };
            // Said twice, the first counts.
            if token == b"*" {
                others.get_or_insert(quality);
            } else if token.eq_ignore_ascii_case(b"identity") {
                identity.get_or_insert(quality);
            } else if let Some(coding) = Coding::of_token(token) {
                codings[coding as usize].get_or_insert(quality);
            }
        }
        Accepted {
            codings: codings.map(|quality| quality.or(others).unwrap_or(0)),
            // `*;q=0` excludes it, too (section 12.5.3), if it is not named.
            identity: match identity.or(others) {
                Some(0) => EXCLUDED,
                Some(quality) => quality,
                None => LEAST,
            },
        }
    }

    /// Which of what there is should be sent: `sizes` gives the length in a coding, or of what has none, if
    /// there is that. `None` if the client takes nothing of it.
    pub fn choose(&self, mut sizes: impl FnMut(Option<Coding>) -> Option<u64>) -> Option<Option<Coding>> {
        let mut best: Option<(Quality, u64, Option<Coding>)> = None;
        let codings = Coding::ALL.into_iter().map(|coding| (Some(coding), self.codings[coding as usize]));
        let plain = (None, self.identity);
        for (coding, quality) in codings.filter(|(_, quality)| *quality > 0).chain([plain]) {
            if quality == EXCLUDED {
                continue;
            }
            let Some(size) = sizes(coding) else { continue };
            let is_better =
                best.is_none_or(|(most, least, _)| quality > most || (quality == most && size < least));
            if is_better {
                best = Some((quality, size, coding));
            }
        }
        best.map(|(.., coding)| coding)
    }

    /// Whether the client takes contents as they are.
    pub fn takes_identity(&self) -> bool {
        self.identity != EXCLUDED
    }
}

const EXCLUDED: Quality = Quality::MAX;

/// `q=0.5` (section 12.4.2): at most three digits behind the point.
pub(super) fn quality(parameter: &[u8]) -> Option<Quality> {
    let (name, value) = (parameter.first()?, parameter.get(1..)?.trim_ascii_start());
    let value = value.strip_prefix(b"=")?.trim_ascii_start();
    if !name.eq_ignore_ascii_case(&b'q') {
        return None;
    }
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => &[],
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths =
        digits.iter().zip([100, 10, 1]).map(|(digit, weight)| Quality::from(digit - b'0') * weight).sum();
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: u64 = 1000;

    /// What is sent of a file of which there are these lengths.
    fn chosen(field: &str, brotli: Option<u64>, zstd: Option<u64>, gzip: Option<u64>) -> &'static str {
        let lines: &[&[u8]] = if field == "-" { &[] } else { &[field.as_bytes()] };
        let choice = Accepted::parse(lines).choose(|coding| match coding {
            None => Some(PLAIN),
            Some(Coding::Brotli) => brotli,
            Some(Coding::Zstd) => zstd,
            Some(Coding::Gzip) => gzip,
            Some(Coding::Dcz | Coding::Dcb) => None,
        });
        choice.map_or("nothing", |coding| coding.map_or("identity", Coding::token))
    }

    #[test]
    fn the_table() {
        for (field, expected) in [
            ("-", "identity"),
            ("", "identity"),
            ("gzip, deflate, br", "br"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZIP", "gzip"),
            ("deflate", "identity"),
            ("*", "zstd"),
            ("*;q=0.5, br;q=0", "zstd"),
            ("br;q=0.5, gzip;q=0.8", "gzip"),
            ("br;q=0.5, identity;q=0.8", "identity"),
            ("br;q=0.5, identity;q=0.5", "br"),
            ("br;q=0", "identity"),
            ("br;q=0, *;q=0", "nothing"),
            ("identity;q=0", "nothing"),
            ("identity;q=0, gzip;q=0.001", "gzip"),
            ("*;q=0, gzip", "gzip"),
            ("*;q=0, identity", "identity"),
            ("gzip;q=1.001", "identity"),
            ("gzip;q=0.0001", "identity"),
            ("gzip;q=x", "identity"),
            ("gzip ; Q=0.7 , br ;q= 0.6", "gzip"),
            (",, gzip ,", "gzip"),
            ("gzip;level=9", "identity"),
        ] {
            assert_eq!(chosen(field, Some(300), Some(290), Some(400)), expected, "{field:?}");
        }
        assert_eq!(chosen("br, gzip", None, None, Some(400)), "gzip");
        assert_eq!(chosen("br, zstd", Some(300), Some(300), None), "br");
        // What is not shorter is sent only where it is liked better.
        assert_eq!(chosen("gzip", None, None, Some(2000)), "gzip");
        assert_eq!(chosen("gzip, identity", None, None, Some(2000)), "identity");
        assert!(!Accepted::parse(&[b"identity;q=0"]).takes_identity());
        assert!(Accepted::parse(&[]).takes_identity());
        assert_eq!(
            Accepted::parse(&[b"br;q=0.5", b"gzip"]),
            Accepted::parse(&[b"br;q=0.5, gzip"]),
            "several lines are one list"
        );
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_there_and_taken(field in "[a-z*;=,. 01q-]{0,40}", sizes: [Option<u64>; 5]) {
            let accepted = Accepted::parse(&[field.as_bytes()]);
            let choice = accepted.choose(|coding| match coding {
                None => Some(PLAIN),
                Some(coding) => sizes[coding as usize],
            });
            match choice {
                None => prop_assert!(!accepted.takes_identity()),
                Some(None) => prop_assert!(accepted.takes_identity()),
                Some(Some(coding)) => prop_assert!(sizes[coding as usize].is_some()),
            }
        }
    }
}
