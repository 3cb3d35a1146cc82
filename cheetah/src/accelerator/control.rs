//! `Cache-Control` (RFC 9111 section 5.2), of responses and of requests.

/// What the fields of one head say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`; also where it names fields, which are then not sent without asking either.
    pub no_cache: bool,
    /// `private`; also where it names fields.
    pub private: bool,
    /// `public`
    pub public: bool,
    /// `must-revalidate` or `proxy-revalidate`
    pub must_revalidate: bool,
    /// `must-understand`
    pub must_understand: bool,
    /// `only-if-cached`
    pub only_if_cached: bool,
    /// `max-age`
    pub max_age: Option<u64>,
    /// `s-maxage`
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861)
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error` (RFC 5861)
    pub stale_if_error: Option<u64>,
    /// `min-fresh`
    pub min_fresh: Option<u64>,
    /// `max-stale`: without a number, as long as it may be.
    pub max_stale: Option<u64>,
}

/// Longest time that is told apart (RFC 9111 section 1.2.2).
pub(super) const MAX_SECONDS: u64 = 1 << 31;

/// A number of seconds: digits alone.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number =
        text.iter().fold(0u64, |n, &digit| n.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(number.min(MAX_SECONDS))
}

impl Directives {
    /// Takes in a line of `Cache-Control`. Of two that differ the shorter time counts, and what is no number
    /// is none.
    pub fn add(&mut self, line: &[u8]) {
        let mut rest = line;
        while let Some((name, value, after)) = next(rest) {
            rest = after;
            let time = || Some(value.and_then(seconds).unwrap_or(0));
            let shorter = |had: Option<u64>| Some(had.unwrap_or(u64::MAX).min(time().unwrap_or(0)));
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            match name.len() {
                6 if is("public") => self.public = true,
                7 if is("private") => self.private = true,
                7 if is("max-age") => self.max_age = shorter(self.max_age),
                8 if is("no-store") => self.no_store = true,
                8 if is("no-cache") => self.no_cache = true,
                8 if is("s-maxage") => self.s_maxage = shorter(self.s_maxage),
                9 if is("min-fresh") => self.min_fresh = time(),
                9 if is("max-stale") => self.max_stale = value.map_or(Some(u64::MAX), |_| time()),
                14 if is("only-if-cached") => self.only_if_cached = true,
                14 if is("stale-if-error") => self.stale_if_error = shorter(self.stale_if_error),
                15 if is("must-revalidate") => self.must_revalidate = true,
                15 if is("must-understand") => self.must_understand = true,
                16 if is("proxy-revalidate") => self.must_revalidate = true,
                22 if is("stale-while-revalidate") => {
                    self.stale_while_revalidate = shorter(self.stale_while_revalidate);
                }
                _ => {}
            }
        }
    }
}

/// Name, value without quotes, and what follows.
type Directive<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

/// The directive at the front of a list.
fn next(list: &[u8]) -> Option<Directive<'_>> {
    let start = list.iter().position(|&b| !matches!(b, b',' | b' ' | b'\t'))?;
    let list = &list[start..];
    let end = list.iter().position(|&b| matches!(b, b',' | b'=')).unwrap_or(list.len());
    let (name, rest) = (list[..end].trim_ascii_end(), &list[end..]);
    let Some(value) = rest.strip_prefix(b"=") else { return Some((name, None, rest)) };
    if let Some(quoted) = value.strip_prefix(b"\"") {
        let mut end = 0;
        while end < quoted.len() && quoted[end] != b'"' {
            end += if quoted[end] == b'\\' { 2 } else { 1 };
        }
        let inside = &quoted[..end.min(quoted.len())];
        let after = quoted.get(end + 1..).unwrap_or_default();
        let comma = after.iter().position(|&b| b == b',').unwrap_or(after.len());
        return Some((name, Some(inside), &after[comma..]));
    }
    let end = value.iter().position(|&b| b == b',').unwrap_or(value.len());
    Some((name, Some(value[..end].trim_ascii_end()), &value[end..]))
}

/// What a request says of what may be used for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Its `Cache-Control`, and `Pragma: no-cache` where there is none.
    pub control: Directives,
    /// Whether it bears `Authorization`.
    pub has_authorization: bool,
}

impl Asks {
    /// Of the fields of a request.
    pub fn of<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Asks {
        let mut asks = Asks::default();
        let (mut has_control, mut pragma) = (false, false);
        for (name, value) in fields {
            match name.len() {
                13 if name.eq_ignore_ascii_case(b"cache-control") => {
                    has_control = true;
                    asks.control.add(value);
                }
                13 if name.eq_ignore_ascii_case(b"authorization") => asks.has_authorization = true,
                6 if name.eq_ignore_ascii_case(b"pragma") => {
                    pragma |= value.to_ascii_lowercase().windows(8).any(|part| part == b"no-cache");
                }
                _ => {}
            }
        }
        asks.control.no_cache |= pragma && !has_control;
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(line: &str) -> Directives {
        let mut directives = Directives::default();
        directives.add(line.as_bytes());
        directives
    }

    #[test]
    fn directives_are_read() {
        let got = of(
            "Max-Age=60, no-cache=\"a, b\", public ,must-revalidate,, x=\"max-age=1\", stale-if-error=\"5\"",
        );
        let wanted = Directives {
            max_age: Some(60),
            no_cache: true,
            public: true,
            must_revalidate: true,
            stale_if_error: Some(5),
            ..Directives::default()
        };
        assert_eq!(got, wanted);
        assert_eq!(of("max-stale").max_stale, Some(u64::MAX));
        assert_eq!(of("max-stale=3").max_stale, Some(3));
        assert_eq!(of("nmax-age=60, max-ages=5"), Directives::default());
    }

    #[test]
    fn what_is_no_number_or_said_twice_is_the_shorter_time() {
        for (line, time) in [
            ("max-age=a", 0),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age", 0),
            ("max-age=", 0),
            ("max-age=99999999999999999999999", MAX_SECONDS),
            ("max-age=10, max-age=5", 5),
            ("max-age=5, max-age=10", 5),
            ("max-age=007", 7),
        ] {
            assert_eq!(of(line).max_age, Some(time), "{line}");
        }
    }

    #[test]
    fn requests_ask() {
        let asks = |text: &'static str| {
            Asks::of(
                text.lines()
                    .map(|line| line.split_once(": ").unwrap())
                    .map(|(n, v)| (n.as_bytes(), v.as_bytes())),
            )
        };
        assert!(asks("Pragma: No-Cache").control.no_cache);
        assert!(!asks("Pragma: no-cache\nCache-Control: max-age=5").control.no_cache);
        assert!(asks("Authorization: x").has_authorization);
    }

    proptest! {
        #[test]
        fn any_bytes_end(line in prop::collection::vec(any::<u8>(), 0..80)) {
            Directives::default().add(&line);
        }
    }
}
