use super::super::{Freshness, Selecting};
use super::*;
use proptest::prelude::*;
use runtime::buffer::Shared;
use std::collections::BTreeMap;

/// Fields of a request.
type Fields = &'static [(&'static [u8], &'static [u8])];

fn object(len: usize, fields: &str, asked: Fields) -> Arc<Object> {
    let mut head = ForeignHead::new(200, "OK".to_owned());
    head.fields = fields.as_bytes().to_vec();
    let freshness = Freshness::of(200, &head.fields, 100, 100);
    let selecting = Selecting::of(&head.fields, asked.iter().copied());
    let blocks = vec![0; len].chunks(64 << 10).map(|block| Shared::from(block.to_vec())).collect();
    Arc::new(Object::new(b"k", &head, blocks, freshness, selecting).unwrap())
}

fn cache(bytes: u64) -> Arc<Cache> {
    Arc::new(Cache::new(Limits { bytes, object: bytes }))
}

fn finds(cache: &Cache, key: &[u8], asked: Fields) -> bool {
    matches!(cache.look_up(key, asked.iter().copied(), &Asks::default(), 100), Found::Fresh(_))
}

const FRESH: &str = "Cache-Control: max-age=60\r\n";

#[test]
fn variants_are_for_the_requests_that_they_select() {
    let cache = cache(1 << 20);
    let fields = "Cache-Control: max-age=60\r\nVary: Accept-Language , X\r\n";
    let (de, en): (Fields, Fields) = (&[(b"accept-language", b"de,  fr")], &[(b"Accept-Language", b"en")]);
    cache.put(b"k", object(10, fields, de));
    assert!(finds(&cache, b"k", &[(b"Accept-Language", b"de,fr")]));
    assert!(finds(&cache, b"k", &[(b"Accept-Language", b"de"), (b"Accept-Language", b"fr")]));
    assert!(!finds(&cache, b"k", en) && !finds(&cache, b"k", &[]));
    assert!(!finds(&cache, b"k", &[(b"Accept-Language", b"de,fr"), (b"X", b"1")]));
    cache.put(b"k", object(10, fields, en));
    assert!(finds(&cache, b"k", en) && finds(&cache, b"k", de));
    let (_, before) = cache.size();
    cache.put(b"k", object(10, fields, en));
    assert_eq!(cache.size(), (1, before), "one of the same takes its place");
    assert!(cache.invalidate(b"k") && !cache.invalidate(b"k"));
    assert_eq!(cache.size(), (0, 0));
}

#[test]
fn what_was_used_is_passed_over_once() {
    let one = object(1000, FRESH, &[]).bytes() + 2;
    let cache = cache(one * 3);
    for key in [b"k1", b"k2", b"k3"] {
        cache.put(key, object(1000, FRESH, &[]));
    }
    // Each has been used by coming; the first to be looked at again goes last.
    cache.put(b"k4", object(1000, FRESH, &[]));
    assert!(!finds(&cache, b"k1", &[]));
    assert!(finds(&cache, b"k2", &[]));
    cache.put(b"k5", object(1000, FRESH, &[]));
    assert!(finds(&cache, b"k2", &[]) && !finds(&cache, b"k3", &[]));
    assert_eq!(cache.size().0, 3);
    cache.put(b"k2", object(10_000, FRESH, &[]));
    assert!(!finds(&cache, b"k2", &[]), "too big, and what it takes the place of is not right any more");
}

#[test]
fn a_change_is_one_of_all_that_it_names() {
    let cache = cache(1 << 20);
    let key = |secured: bool, host: &str, target: &str| {
        let mut key = Vec::new();
        write_key(secured, host.as_bytes(), target.as_bytes(), &mut key);
        key
    };
    let all = [
        (false, "h", "/a"),
        (true, "h", "/a"),
        (false, "h", "/b"),
        (false, "h", "/c"),
        (false, "other", "/c"),
    ];
    for (secured, host, target) in all {
        cache.put(&key(secured, host, target), object(10, FRESH, &[]));
    }
    let mut head = ForeignHead::new(201, String::new());
    head.push(b"Location", b"http://H/b");
    head.push(b"Content-Location", b"http://other/c");
    assert!(cache.invalidate_all(&key(false, "H", "/a"), Some(&head)));
    let left = all.map(|(secured, host, target)| finds(&cache, &key(secured, host, target), &[]));
    assert_eq!(left, [false, false, false, true, true]);
}

#[test]
fn one_asks_for_all() {
    let cache = cache(1 << 20);
    let Begun::Lead(lead) = cache.begin(b"k", 0) else { panic!() };
    let Begun::Follow(_) = cache.begin(b"k", 0) else { panic!() };
    drop(lead);
    let Begun::Lead(lead) = cache.begin(b"k", 0) else { panic!("whoever led is gone") };
    cache.pass(b"k", 5);
    drop(lead);
    assert!(matches!(cache.begin(b"k", 5), Begun::Pass));
    assert!(matches!(cache.begin(b"k", 5 + PASSED_SECONDS), Begun::Lead(_)));
    for number in 0..10_000u32 {
        cache.pass(&number.to_le_bytes(), 0);
    }
    assert!(cache.lock().passed.len() <= MAX_PASSED);
}

proptest! {
    /// Whatever is put and forgotten: what is found was put, the sum of sizes is right, and never more than
    /// allowed.
    #[test]
    fn as_a_map_that_forgets(steps in prop::collection::vec((0u8..3, 0u8..20, 0usize..4000), 1..200)) {
        let cache = cache(40_000);
        let mut model: BTreeMap<u8, Arc<Object>> = BTreeMap::new();
        for (what, key, len) in steps {
            let name = [key];
            match what {
                0 => {
                    let object = object(len, FRESH, &[]);
                    cache.put(&name, Arc::clone(&object));
                    model.insert(key, object);
                }
                1 => {
                    let had = cache.invalidate(&name);
                    prop_assert!(model.remove(&key).is_some() || !had);
                }
                _ => {
                    if let Found::Fresh(hit) = cache.look_up(&name, [].into_iter(), &Asks::default(), 100) {
                        prop_assert!(Arc::ptr_eq(&hit.object, &model[&key]));
                    }
                }
            }
            let table = cache.lock();
            let sum: u64 = table.entries.iter().map(|(key, entry)| {
                entry.variants.iter().map(|object| object.bytes() + key.len() as u64).sum::<u64>()
            }).sum();
            prop_assert_eq!(sum, table.bytes);
            prop_assert!(table.bytes <= 40_000);
            prop_assert!(table.order.len() <= 2 * table.entries.len() + 65);
            prop_assert!(table.entries.keys().all(|key| table.order.contains(key)));
        }
    }
}
