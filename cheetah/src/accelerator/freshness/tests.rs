use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000;

/// `{-60}` stands for the date a minute before [`NOW`].
fn fields(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for part in text.split_inclusive('\n') {
        let line = part.trim_end();
        match line.split_once('{') {
            Some((name, offset)) => {
                let offset: i64 = offset.trim_end_matches('}').parse().unwrap();
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(&date::format(NOW.saturating_add_signed(offset)));
            }
            None => out.extend_from_slice(line.as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn asks(control: &str) -> Directives {
    let mut directives = Directives::default();
    directives.add(control.as_bytes());
    directives
}

#[test]
fn lifetimes_and_ages() {
    for (code, text, lifetime, age) in [
        (200, "Cache-Control: max-age=60", 60, 0),
        (200, "Cache-Control: max-age=60, s-maxage=10", 10, 0),
        (200, "Cache-Control: max-age=60\nAge: 50", 60, 50),
        (200, "Cache-Control: max-age=60\nAge: 50, 4", 60, 50),
        (200, "Cache-Control: max-age=60\nAge: -5", 60, 0),
        (200, "Cache-Control: max-age=60\nDate: {-30}", 60, 30),
        (200, "Cache-Control: max-age=60\nDate: {-30}\nAge: 40", 60, 40),
        (200, "Cache-Control: max-age=60\nDate: {30}", 60, 0),
        (200, "Cache-Control: max-age=60\nExpires: {9}\nDate: {0}", 60, 0),
        (200, "Expires: {9}\nDate: {0}", 9, 0),
        (200, "Expires: {9}\nDate: {-1}", 10, 1),
        (200, "Expires: {9}", 9, 0),
        (200, "Expires: {-9}", 0, 0),
        (200, "Expires: 0", 0, 0),
        (200, "Expires: {9}\nExpires: {99}", 0, 0),
        (200, "Last-Modified: {-1000}\nDate: {0}", 100, 0),
        (200, "Last-Modified: {-100000000}\nDate: {0}", MAX_HEURISTIC, 0),
        (404, "Last-Modified: {-1000}\nDate: {0}", 100, 0),
        (302, "Last-Modified: {-1000}\nDate: {0}", 0, 0),
        (302, "Cache-Control: public\nLast-Modified: {-1000}\nDate: {0}", 100, 0),
        (200, "", 0, 0),
        (200, "CDN-Cache-Control: max-age=60\nCache-Control: max-age=5, no-store", 60, 0),
        (200, "CDN-Cache-Control: max-age=0\nExpires: {9}", 0, 0),
        (200, "CDN-Cache-Control: public\nExpires: {9}", 0, 0),
    ] {
        let freshness = Freshness::of(code, &fields(text), NOW, NOW);
        assert_eq!((freshness.lifetime, freshness.age(NOW)), (lifetime, age), "{text}");
    }
    // What the way takes counts for the response's age.
    let freshness = Freshness::of(200, &fields("Age: 5"), NOW - 3, NOW);
    assert_eq!((freshness.age(NOW), freshness.age(NOW + 10)), (8, 18));
}

#[test]
fn what_may_be_used_when() {
    use Use::{Meanwhile, Now, Validated};
    for (said, asked, age, wanted) in [
        ("max-age=60", "", 59, Now),
        ("max-age=60", "", 60, Validated),
        ("max-age=60", "no-cache", 0, Validated),
        ("max-age=60", "max-age=10", 10, Now),
        ("max-age=60", "max-age=10", 11, Validated),
        ("max-age=60", "min-fresh=30", 30, Now),
        ("max-age=60", "min-fresh=31", 30, Validated),
        ("max-age=60", "max-stale=10", 69, Now),
        ("max-age=60", "max-stale=10", 70, Validated),
        ("max-age=60", "max-stale", 9999, Now),
        ("max-age=60, must-revalidate", "max-stale", 61, Validated),
        ("s-maxage=60", "max-stale", 61, Validated),
        ("max-age=60, proxy-revalidate", "max-stale", 61, Validated),
        ("max-age=60, no-cache", "", 0, Validated),
        ("max-age=60, stale-while-revalidate=10", "", 59, Now),
        ("max-age=60, stale-while-revalidate=10", "", 69, Meanwhile),
        ("max-age=60, stale-while-revalidate=10", "", 70, Validated),
        ("max-age=60, stale-while-revalidate=10", "max-age=100", 69, Validated),
        ("max-age=60, stale-while-revalidate=10, must-revalidate", "", 69, Validated),
        ("max-age=0", "", 0, Validated),
    ] {
        let control = fields(&format!("Cache-Control: {said}"));
        let freshness = Freshness::of(200, &control, NOW, NOW);
        assert_eq!(freshness.usable(&asks(asked), NOW + age), wanted, "{said} | {asked} | {age}");
    }
    for (said, asked, age, wanted) in [
        ("max-age=60, stale-if-error=10", "", 69, true),
        ("max-age=60, stale-if-error=10", "", 70, false),
        ("max-age=60, stale-if-error=10, must-revalidate", "", 69, false),
        ("max-age=60", "stale-if-error=10", 69, true),
        ("max-age=60", "", 61, false),
    ] {
        let control = fields(&format!("Cache-Control: {said}"));
        let freshness = Freshness::of(200, &control, NOW, NOW);
        assert_eq!(freshness.usable_on_error(&asks(asked), NOW + age), wanted, "{said} | {asked} | {age}");
    }
}

#[test]
fn what_may_be_kept() {
    for (code, text, authorized, wanted) in [
        (200, "Cache-Control: max-age=60", false, true),
        (200, "Cache-Control: max-age=60, no-store", false, false),
        (200, "Cache-Control: max-age=60, no-store, must-understand", false, true),
        (200, "Cache-Control: max-age=60, private", false, false),
        (200, "Cache-Control: max-age=60, private=\"set-cookie\"", false, false),
        (200, "Cache-Control: max-age=60\nVary: *", false, false),
        (200, "Cache-Control: max-age=60\nVary: Accept, *", false, false),
        (200, "Cache-Control: max-age=60\nVary: Accept", false, true),
        (200, "Cache-Control: max-age=60", true, false),
        (200, "Cache-Control: max-age=60, public", true, true),
        (200, "Cache-Control: s-maxage=60", true, true),
        (200, "Cache-Control: max-age=60, must-revalidate", true, true),
        (200, "Cache-Control: max-age=60\nSet-Cookie: a=b", false, false),
        (200, "Cache-Control: max-age=60, public\nSet-Cookie: a=b", false, true),
        (200, "CDN-Cache-Control: max-age=60\nCache-Control: no-store", false, true),
        (200, "CDN-Cache-Control: private\nCache-Control: max-age=60", false, false),
        (200, "", false, false),
        (200, "ETag: \"a\"", false, true),
        (200, "Cache-Control: max-age=0", false, false),
        (200, "Cache-Control: max-age=0\nETag: \"a\"", false, true),
        (200, "Cache-Control: max-age=0, stale-if-error=9", false, true),
        (206, "Cache-Control: max-age=60", false, false),
        (304, "Cache-Control: max-age=60", false, false),
        (299, "Cache-Control: max-age=60", false, false),
        (404, "Cache-Control: max-age=60", false, true),
        (500, "Cache-Control: max-age=60", false, true),
        (302, "ETag: \"a\"", false, false),
    ] {
        let fields = fields(text);
        let freshness = Freshness::of(code, &fields, NOW, NOW);
        let asks = Asks { has_authorization: authorized, ..Asks::default() };
        assert_eq!(may_store(code, &fields, &asks, &freshness), wanted, "{code} {text}");
    }
    let control = asks("no-store");
    let asks = Asks { control, ..Asks::default() };
    let fields = fields("Cache-Control: max-age=60");
    assert!(
        !may_store(200, &fields, &asks, &Freshness::of(200, &fields, NOW, NOW)),
        "the client does not want it"
    );
}

proptest! {
    #[test]
    fn nothing_said_by_anybody_makes_it_young_again(
        said in prop::collection::vec(any::<u8>(), 0..60), at in any::<u32>(), later in any::<u32>()) {
        let fields = [b"Age: ", &said[..], b"\r\nDate: ", &said, b"\r\nCache-Control: ", &said, b"\r\n"].concat();
        let freshness = Freshness::of(200, &fields, at.into(), at.into());
        prop_assert!(freshness.lifetime <= MAX_SECONDS);
        let (now, then) = (u64::from(at), u64::from(at) + u64::from(later));
        prop_assert!(freshness.age(then) >= freshness.age(now));
        if freshness.usable(&Directives::default(), then) == Use::Now {
            prop_assert!(freshness.age(then) < freshness.lifetime);
        }
    }
}
