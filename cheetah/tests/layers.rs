//! Imports run one way: of the modules at the top of a crate, none needs one that needs it. Read from the
//! sources of the four crates that make the server, without comments and unit tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that each top-level module names in its code.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn imports(src: &Path) -> Imports {
    let mut imports = Imports::new();
    let mut files: Vec<PathBuf> = vec![src.to_path_buf()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let place = path.strip_prefix(src).unwrap().with_extension("");
        let module = place.iter().next().unwrap().to_str().unwrap().to_owned();
        let is_test = place.file_name().is_some_and(|name| name == "tests");
        if is_test || ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let named = imports.entry(module.clone()).or_default();
        for line in code.lines().map(|line| line.split("//").next().unwrap()) {
            assert!(!line.contains("crate::{"), "{}: name each module in a line of its own", path.display());
            for rest in line.split("crate::").skip(1) {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let other = &rest[..end];
                // Types and macros at the crate's root are no modules.
                if other != module && other.starts_with(|c: char| c.is_ascii_lowercase()) {
                    named.insert(other.to_owned());
                }
            }
        }
    }
    imports
}

/// The modules from `at` back to it, if there is such a way.
fn circle(imports: &Imports, way: &mut Vec<String>, seen: &mut BTreeSet<String>) -> bool {
    let (start, at) = (way[0].clone(), way[way.len() - 1].clone());
    for next in imports.get(&at).into_iter().flatten() {
        let closes = *next == start;
        if !closes && !seen.insert(next.clone()) {
            continue;
        }
        way.push(next.clone());
        if closes || circle(imports, way, seen) {
            return true;
        }
        way.pop();
    }
    false
}

#[test]
fn imports_run_one_way() {
    for name in ["runtime", "netstack", "fsstack", "cheetah"] {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let imports = imports(&src);
        assert!(imports.len() >= 4, "{name}: {imports:?}");
        for module in imports.keys() {
            let mut way = vec![module.clone()];
            assert!(
                !circle(&imports, &mut way, &mut BTreeSet::new()),
                "{name}: {} go round in a circle",
                way.join(" -> ")
            );
        }
    }
}

/// What is asserted above can fail.
#[test]
fn a_circle_is_found() {
    let all = |pairs: &[(&str, &[&str])]| -> Imports {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        pairs.iter().map(|(module, names)| ((*module).to_owned(), set(names))).collect()
    };
    let has_circle = |imports: &Imports| {
        imports.keys().any(|module| circle(imports, &mut vec![module.clone()], &mut BTreeSet::new()))
    };
    assert!(has_circle(&all(&[("a", &["b"]), ("b", &["d", "c"]), ("c", &["a"]), ("d", &[])])));
    assert!(!has_circle(&all(&[("a", &["b", "c"]), ("b", &["d", "c"]), ("c", &["d"]), ("d", &[])])));
}
