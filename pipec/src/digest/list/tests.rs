//! Lines as other tools have printed them, and lines that nobody prints.

use super::{LINE_BYTES, Line, Parser, lines};
use crate::digest::{Algorithm, Value};
use pipe_lib::Library;

/// What a line comes to: the name and the digests, as text.
fn parsed_as(line: &[u8], named: &[&str]) -> Option<(String, Vec<(String, String)>)> {
    let library = Library::standard();
    let named: Vec<Algorithm> = named.iter().map(|name| Algorithm::named(name, &library).unwrap()).collect();
    match (Parser { library: &library, named: &named }).line(line) {
        Line::Entry(entry) => {
            let expected = entry
                .expected
                .iter()
                .map(|(algorithm, value)| (algorithm.name.clone(), value.text(algorithm, false)));
            Some((entry.path.to_str().unwrap().to_owned(), expected.collect()))
        }
        _ => None,
    }
}

#[track_caller]
fn assert_parsed(line: &str, named: &[&str], name: &str, expected: &[(&str, &str)]) {
    let (path, found) = parsed_as(line.as_bytes(), named).unwrap_or_else(|| panic!("improper: {line}"));
    assert_eq!(path, name, "{line}");
    let found: Vec<(&str, &str)> = found.iter().map(|(a, v)| (&**a, &**v)).collect();
    assert_eq!(found, expected, "{line}");
}

#[test]
fn lines_of_the_old_tools() {
    assert_parsed("930766865 9 a file", &[], "a file", &[("cksum", "930766865")]);
    assert_parsed("53615     1 a", &[], "a", &[("bsd", "53615")]);
    assert_parsed("00000     0 e", &[], "e", &[("bsd", "0")]);
    assert_parsed("12345 123456 a", &[], "a", &[("bsd", "12345")]);
    assert_parsed("477 1 a", &["sysv"], "a", &[("sysv", "477")]);
    // Told what it is, five digits are no sum of BSD's.
    assert_parsed("12345 123456 a", &["cksum"], "a", &[("cksum", "12345")]);
    assert_parsed("12345678 9 a", &[], "a", &[("cksum", "12345678")]);
    assert_parsed("12345678  9 a", &[], "9 a", &[("crc32", "12345678")]);
    assert_eq!(parsed_as(b"70000     1 a", &["bsd"]), None, "more than 16 bits");
    assert_eq!(parsed_as(b"4294967296 9 a", &[]), None, "more than 32 bits");
}

#[cfg(feature = "digests")]
#[test]
fn lines_of_other_tools() {
    let md5 = "25f9e794323b453885f5181f1b624d0b";
    let sha1 = "f7c3bc1d808e04732adf679965ccc34ca7ae3441";
    assert_parsed(&format!("{md5}  a"), &[], "a", &[("md5", md5)]);
    assert_parsed(&format!("{md5} *a b"), &[], "a b", &[("md5", md5)]);
    assert_parsed(&format!("{md5} a  b"), &[], "a  b", &[("md5", md5)]);
    assert_parsed(&format!("MD5 (a) b) = {md5}"), &[], "a) b", &[("md5", md5)]);
    assert_parsed(&format!("MD5   (a) = {md5}\r"), &[], "a", &[("md5", md5)]);
    assert_parsed(&format!("SHA1(a)= {sha1}"), &[], "a", &[("sha1", sha1)]);
    assert_parsed(&format!("SHA-1 (a) = {sha1}"), &[], "a", &[("sha1", sha1)]);
    assert_parsed(&format!("\\{md5}  a\\nb\\\\"), &[], "a\nb\\", &[("md5", md5)]);
    // Several of RHash, and its base64.
    let all = [("crc32", "cbf43926"), ("md5", md5), ("sha1", sha1)];
    assert_parsed(&format!("a  b  cbf43926  {md5}  {sha1}"), &[], "a  b", &all);
    let sha256 = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
    let base64 = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
    assert_parsed(&format!("{base64}  a"), &["sha256"], "a", &[("sha256", sha256)]);
    assert_parsed(&format!("SHA256 (a) = {base64}"), &[], "a", &[("sha256", sha256)]);
    // Digests of one length: the caller says which.
    assert_parsed(&format!("{sha256}  a"), &["blake3"], "a", &[("blake3", sha256)]);
    assert_parsed(&format!("{sha256}  a"), &["md5"], "a", &[("sha256", sha256)]);
}

#[test]
fn simple_file_verification() {
    assert_parsed("some name.bin CBF43926", &[], "some name.bin", &[("crc32", "cbf43926")]);
    assert_parsed("name   cbf43926  ", &[], "name", &[("crc32", "cbf43926")]);
    assert_parsed("CRC32 (a = cbf43926", &[], "CRC32 (a =", &[("crc32", "cbf43926")]);
    for comment in ["; made by somebody", "# a comment", "", "  "] {
        let library = Library::standard();
        let parser = Parser { library: &library, named: &[] };
        assert_eq!(parser.line(comment.as_bytes()), Line::Nothing, "{comment:?}");
    }
}

#[test]
fn nonsense_is_improper() {
    let hostile: [&[u8]; 13] = [
        b"x",
        b"\\",
        b"a b",
        b"(",
        b"()=",
        b"CRC32 (a) = ",
        b"CRC32 (a) = cbf4392",
        b"NOPE (a) = cbf43926",
        b"CRC32 () = cbf43926",
        b"\\CRC32 (\\x) = cbf43926",
        b"CRC32 (\0) = cbf43926",
        b"cbf43926  ",
        b"99999999999999999999999 9 a",
    ];
    for line in hostile {
        assert_eq!(parsed_as(line, &[]), None, "{:?}", String::from_utf8_lossy(line));
    }
    assert_eq!(parsed_as(&vec![b'('; LINE_BYTES + 1], &[]), None);
    // No panic at any cut of any of them, nor of good ones.
    let good: [&[u8]; 3] = [b"\\CRC32 (a\\n) = cbf43926", b"53615     1 a", b"a  b  cbf43926  cbf43926"];
    for line in hostile.iter().chain(&good) {
        for from in 0..line.len() {
            for to in from..=line.len() {
                let _ = parsed_as(&line[from..to], &["cksum", "crc32"]);
            }
        }
    }
}

#[test]
fn lines_are_bounded() {
    let mut text = vec![b'x'; 3 * LINE_BYTES];
    text.extend(b"\nlast");
    let found: Vec<_> = lines(&text[..]).map(Result::unwrap).collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].len() > LINE_BYTES);
    assert_eq!(found[1], b"last");
}

#[test]
fn values_are_written_and_read() {
    let library = Library::standard();
    for name in ["crc32", "crc64nvme", "cksum", "bsd", "inet", "adler32"] {
        let algorithm = Algorithm::named(name, &library).unwrap();
        for number in [0, 1, 0x1234, 0xffff] {
            let value = Value::of_number(number, algorithm.bytes);
            for base64 in [false, true] {
                let text = value.text(&algorithm, base64);
                assert_eq!(Value::parse(text.as_bytes(), &algorithm), Some(value.clone()), "{name} {text}");
            }
        }
    }
}
