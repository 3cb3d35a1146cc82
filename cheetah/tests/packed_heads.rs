//! Heads that are made of what an image says of them, and entity tags that are compared with contents.

use cheetah::http::coding::Coding;
use cheetah::http::conditional::Validators;
use cheetah::http::dictionary::DictionaryUse;
use cheetah::http::head_facts::{decode, encode};
use cheetah::http::headers::{self, Facts};
use cheetah::site::pack;
use cheetah::site::tags::compare;
use fsstack::fs::Access;
use fsstack::image::build::Mtime;
use fsstack::log::{Generation, Log};
use fsstack::{BuildOptions, Builder, Image, OpenOptions};
use proptest::prelude::*;

fn facts(coding: Option<Coding>) -> Facts<'static> {
    Facts {
        content_type: b"text/html; charset=utf-8",
        coding,
        varies: coding.is_some(),
        dictionary: if coding.is_some() { DictionaryUse::Offered } else { DictionaryUse::None },
        size: 1234,
        validators: Validators { etag: b"\"abc\"", last_modified: 784_111_777 },
    }
}

#[test]
fn heads_made_of_it_are_those_that_would_be_stored() {
    for coding in [None, Some(Coding::ALL[0]), Some(Coding::ALL[1])] {
        let facts = facts(coding);
        let (short, long) = (encode(&facts).unwrap(), headers::encode(&facts));
        assert_eq!(headers::encode(&decode(&short, 1234).unwrap()), long);
        assert!(short.len() * 5 < long.len(), "{} of {}", short.len(), long.len());
    }
}

#[test]
fn what_no_head_may_say_is_refused() {
    let good = encode(&facts(None)).unwrap();
    assert!(decode(&good, 1235).is_none());
    for at in [0, 4, 6, 7, 27, good.len() - 5, good.len() - 3, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] = if at == 4 { 99 } else { b'\n' };
        assert!(decode(&bad, 1234).is_none(), "byte {at}");
    }
    assert!(decode(&good[..good.len() - 1], 1234).is_none());
    let long = [b'x'; 256];
    assert!(encode(&Facts { content_type: &long, ..facts(None) }).is_none());
    assert!(encode(&Facts { content_type: b"", ..facts(None) }).is_none());
    for (etag, is_tag) in [
        (&b"\"\""[..], true),
        (b"\"a,W/\xff!~\"", true),
        (b"", false),
        (b"\"", false),
        (b"abc", false),
        (b"\"abc", false),
        (b"abc\"", false),
        (b"W/\"abc\"", false),
        (b"\"a\"c\"", false),
        (b"\"a\", \"c\"", false),
        (b"\"a c\"", false),
    ] {
        let validators = Validators { etag, last_modified: 0 };
        assert_eq!(encode(&Facts { validators, ..facts(None) }).is_some(), is_tag, "{etag:?}");
        // Without asking who encodes.
        let mut area = good[..good.len() - 5].to_vec();
        area[7] = etag.len() as u8;
        area.extend_from_slice(etag);
        assert_eq!(decode(&area, 1234).is_some(), is_tag, "{etag:?}");
    }
}

/// What is read of an area goes into heads from which the same is read.
fn heads_are_whole(area: &[u8]) -> Result<bool, TestCaseError> {
    let Some(facts) = decode(area, 1234) else { return Ok(false) };
    let heads = headers::encode(&facts);
    let Some(places) = headers::Area::decode(&heads, 1234) else {
        return Err(TestCaseError::fail("no heads"));
    };
    prop_assert_eq!(&heads[places.content_type], facts.content_type);
    prop_assert_eq!(&heads[places.etag], facts.validators.etag);
    let again = encode(&facts);
    let again = again.as_deref().and_then(|area| decode(area, 1234));
    prop_assert_eq!(again.map(|facts| headers::encode(&facts)), Some(heads));
    Ok(true)
}

/// Whole areas, the lengths being those of what stands there, and mostly of bytes that may.
fn areas() -> impl Strategy<Value = Vec<u8>> {
    let value = || {
        let byte = prop_oneof![20 => 0x21u8..0x7f, 1 => any::<u8>()];
        prop::collection::vec(byte, 0..20)
    };
    let etag = prop_oneof![value(), value().prop_map(|inside| [b"\"", &inside[..], b"\""].concat())];
    (0u8..6, any::<u8>(), any::<u64>(), value(), etag).prop_map(|(coding, bits, modified, kind, etag)| {
        let lens = [coding, bits, kind.len() as u8, etag.len() as u8];
        [b"HHF1", &lens[..], &modified.to_le_bytes(), &1234u64.to_le_bytes(), &kind, &etag].concat()
    })
}

/// That the property below is about something: more than a few of its areas are read.
#[test]
fn many_of_the_areas_are_read() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let read = (0..500).filter(|_| {
        let area = areas().new_tree(&mut runner).unwrap().current();
        heads_are_whole(&area).unwrap()
    });
    assert!((50..450).contains(&read.count()));
}

proptest! {
    #[test]
    fn of_any_area_heads_are_whole(area in areas()) {
        heads_are_whole(&area)?;
    }

    #[test]
    fn of_any_bytes_behind_the_magic_heads_are_whole(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        heads_are_whole(&[&b"HHF1"[..], &bytes].concat())?;
    }

    #[test]
    fn of_any_bytes_heads_are_whole(at in 0usize..60, value: u8) {
        let mut bytes = encode(&facts(None)).unwrap();
        let len = bytes.len();
        bytes[at % len] = value;
        heads_are_whole(&bytes)?;
    }
}

#[test]
fn other_contents_with_sound_checksums_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    pack::add(&mut builder, b"a.html", Mtime::default(), &b"as it was"[..]).unwrap();
    let packed = builder.finish().unwrap().0.into_bytes();
    let image = Image::from_bytes(packed, &OpenOptions::default()).unwrap();
    let area = image.lookup("a.html").unwrap().app().unwrap().to_vec();

    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    pack::add(&mut builder, b"a.html", Mtime::default(), &b"as it was"[..]).unwrap();
    builder.file(b"b.html", Mtime::default(), &mut &b"as it is!"[..], |_| area.clone()).unwrap();
    builder.file(b"c", Mtime::default(), &mut &b"no heads"[..], |_| Vec::new()).unwrap();
    builder.link(b"b.html", b"d.html").unwrap();
    std::fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
    let check = || {
        let generation = Generation::open(&path, &OpenOptions::default()).unwrap();
        assert!(generation.check(|_| {}).problems.is_empty(), "to checksums it is sound");
        let mut seen = 0;
        let compared = compare(&generation, |bytes| seen = bytes);
        assert_eq!(
            (compared.compared, compared.files, seen),
            (3, 4, 26),
            "names, and bytes once, of those without a tag, too"
        );
        assert!(compared.problems.len() == 1 && compared.problems[0].starts_with("`b.html`: "));
    };
    check();
    drop(Log::convert(&path, &OpenOptions::default()).unwrap());
    check();
}

/// What cannot be read is told of that file, and of many files not more than a hundred sentences.
#[test]
fn files_that_cannot_be_read_are_problems_of_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.img");
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    for number in 0..120 {
        let contents = vec![number; 5000];
        pack::add(&mut builder, format!("{number:03}").as_bytes(), Mtime::default(), &contents[..]).unwrap();
    }
    std::fs::write(&path, builder.finish().unwrap().0.into_bytes()).unwrap();
    let options = || OpenOptions { access: Access::Blocks, ..OpenOptions::default() };
    let generation = Generation::open(&path, &options()).unwrap();
    let whole = compare(&generation, |_| {});
    assert_eq!((whole.compared, whole.files, whole.problems.len()), (120, 120, 0));
    // As when somebody cuts it meanwhile: in an image that was opened, and of which nothing is in memory.
    let generation = Generation::open(&path, &options()).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(8 << 10).unwrap();
    let cut = compare(&generation, |_| {});
    assert_eq!(cut.files, 120);
    assert_eq!(cut.compared + cut.problems.len() as u64 + cut.more_problems, 120);
    assert_eq!(cut.problems.len(), 100);
    assert!(cut.more_problems > 0);
    assert!(cut.problems[99].starts_with('`') && cut.problems[99].contains("cannot be compared"));
}
