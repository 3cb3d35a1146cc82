//! Names of files in lists, as coreutils write them: a line that begins with a backslash has backslashes,
//! line feeds and carriage returns in its name written out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The name's bytes, and whether they are written out so.
pub(crate) fn escaped(path: &Path) -> (Vec<u8>, bool) {
    let bytes = bytes(path.as_os_str());
    if !bytes.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
        return (bytes, false);
    }
    let mut text = Vec::with_capacity(bytes.len() + 2);
    for byte in bytes {
        match byte {
            b'\\' => text.extend(b"\\\\"),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            byte => text.push(byte),
        }
    }
    (text, true)
}

/// The name that was written out so; `None` if nothing is written so.
pub(crate) fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

#[cfg(unix)]
pub(crate) fn bytes(name: &OsStr) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(name).to_vec()
}

#[cfg(not(unix))]
pub(crate) fn bytes(name: &OsStr) -> Vec<u8> {
    name.to_string_lossy().into_owned().into_bytes()
}

/// The path that bytes of a list name.
#[cfg(unix)]
pub(crate) fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

#[cfg(not(unix))]
pub(crate) fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from(String::from_utf8_lossy(&bytes).into_owned()))
}
