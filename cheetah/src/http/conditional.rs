//! Conditional requests (RFC 9110 section 13): entity tags, dates, and which of them takes precedence.

use smallvec::SmallVec;

use super::date;

/// The conditional fields of one request, as they came. A field that may be a list may also come in several
/// lines.
#[derive(Clone, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-Match` lines.
    pub if_match: SmallVec<[&'a [u8]; 1]>,
    /// `If-None-Match` lines.
    pub if_none_match: SmallVec<[&'a [u8]; 1]>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Range`.
    pub if_range: Option<&'a [u8]>,
}

/// What identifies the representation that would be sent.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// The entity tag, quotes included; always strong here.
    pub etag: &'a [u8],
    /// Last modification, seconds since 1970.
    pub last_modified: u64,
}

/// What the preconditions of a GET or HEAD request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer the request.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

impl Conditions<'_> {
    /// Whether there is nothing to evaluate but perhaps `If-Range`.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_empty()
            && self.if_none_match.is_empty()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }

    /// Evaluates the preconditions of a GET or HEAD request in the order of RFC 9110 section 13.2.2, steps 1
    /// to 4.
    pub fn evaluate(&self, current: Validators<'_>) -> Verdict {
        if !self.if_match.is_empty() {
            if !self.if_match.iter().any(|line| list_matches(line, current.etag, Comparison::Strong)) {
                return Verdict::PreconditionFailed;
            }
        } else if let Some(since) = self.if_unmodified_since.and_then(date::parse)
            && current.last_modified > since
        {
            return Verdict::PreconditionFailed;
        }
        if !self.if_none_match.is_empty() {
            if self.if_none_match.iter().any(|line| list_matches(line, current.etag, Comparison::Weak)) {
                return Verdict::NotModified;
            }
        } else if let Some(since) = self.if_modified_since.and_then(date::parse)
            && current.last_modified <= since
        {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// Whether a request that changes what is there may go on: steps 1 to 3, of which the third fails where
    /// it would give a
    /// 304. `current` is what is there, if anything; without it dates say nothing.
    pub fn allow_change(&self, current: Option<Validators<'_>>) -> bool {
        let Some(current) = current else {
            return self.if_match.is_empty();
        };
        let tags_only = Conditions { if_modified_since: None, ..self.clone() };
        tags_only.evaluate(current) == Verdict::Proceed
    }

    /// The same with memory of its own; `None` if there is nothing to evaluate.
    pub fn to_kept(&self) -> Option<Box<KeptConditions>> {
        let keep = |lines: &SmallVec<[&[u8]; 1]>| lines.iter().map(|line| line.to_vec()).collect();
        (!self.is_empty()).then(|| {
            Box::new(KeptConditions {
                if_match: keep(&self.if_match),
                if_none_match: keep(&self.if_none_match),
                if_unmodified_since: self.if_unmodified_since.map(<[u8]>::to_vec),
            })
        })
    }

    /// Step 5: whether a `Range` field still counts. A tag must match strongly; a date must be the very same
    /// one and old enough at `now_unix` to be a strong validator (section 8.8.2.2: at least a second before).
    pub fn range_applies(&self, current: Validators<'_>, now_unix: u64) -> bool {
        let Some(field) = self.if_range else { return true };
        let field = field.trim_ascii();
        if field.starts_with(b"\"") || field.starts_with(b"W/") {
            return matches!(entity_tag(field), Some((tag, rest)) if rest.is_empty()
                && tags_match(tag, current.etag, Comparison::Strong));
        }
        date::parse(field) == Some(current.last_modified) && current.last_modified < now_unix
    }
}

/// The preconditions of a request that changes something, for when its head is gone.
#[derive(Clone, Debug, Default)]
pub struct KeptConditions {
    if_match: Vec<Vec<u8>>,
    if_none_match: Vec<Vec<u8>>,
    if_unmodified_since: Option<Vec<u8>>,
}

impl KeptConditions {
    /// As [`Conditions::allow_change`].
    pub fn allow_change(&self, current: Option<Validators<'_>>) -> bool {
        let conditions = Conditions {
            if_match: self.if_match.iter().map(Vec::as_slice).collect(),
            if_none_match: self.if_none_match.iter().map(Vec::as_slice).collect(),
            if_unmodified_since: self.if_unmodified_since.as_deref(),
            ..Conditions::default()
        };
        conditions.allow_change(current)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

#[derive(Clone, Copy)]
struct EntityTag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

fn tags_match(theirs: EntityTag<'_>, ours: &[u8], comparison: Comparison) -> bool {
    (comparison == Comparison::Weak || !theirs.weak) && theirs.opaque == ours
}

/// Whether a list of entity tags, or `*`, matches `etag`. What is malformed ends the list: a condition that
/// cannot be read must not turn a request into a 304.
fn list_matches(list: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
        }
        let Some((tag, after)) = entity_tag(rest) else { return false };
        if tags_match(tag, etag, comparison) {
            return true;
        }
        rest = after.trim_ascii_start();
        if !rest.starts_with(b",") {
            return false;
        }
    }
}

/// Splits one entity tag off the front: `[ "W/" ] DQUOTE *etagc DQUOTE`.
fn entity_tag(text: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let (weak, text) = match text.strip_prefix(b"W/") {
        Some(opaque) => (true, opaque),
        None => (false, text),
    };
    let inside = text.strip_prefix(b"\"")?;
    let end = inside.iter().position(|&b| b == b'"')?;
    let is_etagc = |&b: &u8| b == 0x21 || (0x23..=0x7e).contains(&b) || b >= 0x80;
    if !inside[..end].iter().all(is_etagc) {
        return None;
    }
    let (opaque, rest) = text.split_at(end + 2);
    Some((EntityTag { weak, opaque }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smallvec::smallvec;

    const ETAG: &[u8] = b"\"abc\"";
    const MODIFIED: u64 = 784_111_777;
    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";

    fn current() -> Validators<'static> {
        Validators { etag: ETAG, last_modified: MODIFIED }
    }

    #[test]
    fn lists_of_tags() {
        for (list, strong, weak) in [
            ("\"abc\"", true, true),
            ("W/\"abc\"", false, true),
            ("*", true, true),
            (" \"x\" , \"abc\" ", true, true),
            (",,\"x\",, W/\"abc\",", false, true),
            ("\"x, \\\"abc\"", false, false),
            ("\"a,b\",\"abc\"", true, true),
            ("abc", false, false),
            ("\"abc", false, false),
            ("\"abd\"", false, false),
            ("w/\"abc\"", false, false),
            ("\"x\" \"abc\"", false, false),
            ("", false, false),
            (",", false, false),
        ] {
            assert_eq!(list_matches(list.as_bytes(), ETAG, Comparison::Strong), strong, "{list}");
            assert_eq!(list_matches(list.as_bytes(), ETAG, Comparison::Weak), weak, "{list}");
        }
    }

    #[test]
    fn precedence_of_section_13_2_2() {
        use Verdict::*;
        let none = Conditions::default();
        assert_eq!(none.evaluate(current()), Proceed);
        let c = |f: fn(&mut Conditions<'static>)| {
            let mut conditions = Conditions::default();
            f(&mut conditions);
            conditions.evaluate(current())
        };
        assert_eq!(c(|c| c.if_modified_since = Some(BEFORE)), Proceed);
        assert_eq!(c(|c| c.if_modified_since = Some(SAME)), NotModified);
        assert_eq!(c(|c| c.if_modified_since = Some(AFTER)), NotModified);
        assert_eq!(c(|c| c.if_modified_since = Some(b"garbage")), Proceed);
        assert_eq!(c(|c| c.if_none_match = smallvec![ETAG]), NotModified);
        assert_eq!(
            c(|c| c.if_none_match = SmallVec::from_slice(&[&b"\"x\""[..], b"W/\"abc\""])),
            NotModified
        );
        // A tag that differs wins over a date that says "not modified".
        assert_eq!(
            c(|c| {
                c.if_none_match = smallvec![&b"\"x\""[..]];
                c.if_modified_since = Some(AFTER);
            }),
            Proceed
        );
        assert_eq!(c(|c| c.if_match = smallvec![&b"\"x\""[..]]), PreconditionFailed);
        assert_eq!(c(|c| c.if_match = smallvec![&b"W/\"abc\""[..]]), PreconditionFailed);
        assert_eq!(c(|c| c.if_match = smallvec![&b"*"[..]]), Proceed);
        assert_eq!(c(|c| c.if_unmodified_since = Some(BEFORE)), PreconditionFailed);
        assert_eq!(c(|c| c.if_unmodified_since = Some(SAME)), Proceed);
        // If-Match that holds silences If-Unmodified-Since.
        assert_eq!(
            c(|c| {
                c.if_match = smallvec![ETAG];
                c.if_unmodified_since = Some(BEFORE);
            }),
            Proceed
        );
        assert_eq!(
            c(|c| {
                c.if_match = smallvec![ETAG];
                c.if_none_match = smallvec![ETAG];
            }),
            NotModified
        );
    }

    #[test]
    fn if_range() {
        let applies = |field: &'static [u8], now| {
            let conditions = Conditions { if_range: Some(field), ..Conditions::default() };
            conditions.range_applies(current(), now)
        };
        assert!(Conditions::default().range_applies(current(), 0));
        assert!(applies(ETAG, MODIFIED));
        assert!(!applies(b"W/\"abc\"", MODIFIED + 9));
        assert!(!applies(b"\"abd\"", MODIFIED + 9));
        assert!(!applies(b"\"abc\", \"x\"", MODIFIED + 9));
        assert!(applies(SAME, MODIFIED + 1));
        assert!(!applies(SAME, MODIFIED), "not yet a strong validator");
        assert!(!applies(AFTER, MODIFIED + 9));
        assert!(!applies(BEFORE, MODIFIED + 9));
        assert!(!applies(b"", MODIFIED + 9));
    }

    proptest! {
        /// A list is built from tags; whether ours is among them is known beforehand.
        #[test]
        fn membership(tags in proptest::collection::vec(("[a-c,]{0,3}", any::<bool>()), 0..6), gap in "[ \t]{0,2}") {
            let list: Vec<String> =
                tags.iter().map(|(tag, weak)| format!("{}\"{tag}\"", if *weak { "W/" } else { "" })).collect();
            let list = list.join(&format!("{gap},{gap}"));
            let strong = tags.iter().any(|(tag, weak)| tag == "abc" && !weak);
            let weak = tags.iter().any(|(tag, _)| tag == "abc");
            prop_assert_eq!(list_matches(list.as_bytes(), ETAG, Comparison::Strong), strong);
            prop_assert_eq!(list_matches(list.as_bytes(), ETAG, Comparison::Weak), weak);
        }

        #[test]
        fn nonsense_never_panics(list in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = list_matches(&list, ETAG, Comparison::Weak);
            let conditions = Conditions { if_range: Some(&list), ..Conditions::default() };
            let _ = conditions.range_applies(current(), MODIFIED + 9);
        }
    }
}
