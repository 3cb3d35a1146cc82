//! Blocks of heads that this server sends: the static table's indices, and literals that enter no table.

use super::huffman;
use super::static_table::{
    AUTHORITY_INDEX, METHOD_GET_INDEX, PATH_INDEX, SCHEME_HTTP_INDEX, SCHEME_HTTPS_INDEX, STATUS_INDEX,
    index_of, index_of_status,
};

/// Says that we keep nothing in the peer's table (RFC 7541 section 6.3). Stands first in the first block of a
/// connection, so that whatever size the peer allows later, there is nothing to say.
pub const EMPTY_TABLE: u8 = 0x20;

/// Appends `value` with the upper bits `pattern` and `prefix` bits in the first byte (section 5.1).
fn integer(pattern: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a string, in Huffman's code if that is shorter (section 5.2).
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_len(bytes);
    if coded < bytes.len() {
        integer(0x80, 7, coded, out);
        huffman::encode(bytes, out);
    } else {
        integer(0, 7, bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

/// Appends a field, whose name is in lower case.
pub fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match index_of(name) {
        Some(index) => integer(0, 4, index, out),
        None => {
            out.push(0);
            string(name, out);
        }
    }
    string(value, out);
}

/// Appends `:status`.
pub fn status(code: &[u8], out: &mut Vec<u8>) {
    match index_of_status(code) {
        Some(index) => integer(0x80, 7, index, out),
        None => {
            integer(0, 4, STATUS_INDEX, out);
            string(code, out);
        }
    }
}

/// Appends what a request for a file begins with (RFC 9113 section 8.3.1).
pub fn get(secured: bool, authority: &[u8], path: &[u8], out: &mut Vec<u8>) {
    let scheme = if secured { SCHEME_HTTPS_INDEX } else { SCHEME_HTTP_INDEX };
    integer(0x80, 7, METHOD_GET_INDEX, out);
    integer(0x80, 7, scheme, out);
    for (index, value) in [(AUTHORITY_INDEX, authority), (PATH_INDEX, path)] {
        integer(0, 4, index, out);
        string(value, out);
    }
}

/// Appends the lines of a head of HTTP/1.1, or a part of one: a status line where it begins with that, and
/// fields but those that speak of a connection (RFC 9113 section 8.2.2).
pub fn of_head(text: &[u8], out: &mut Vec<u8>) {
    let mut name = Vec::with_capacity(32);
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(rest) = line.strip_prefix(b"HTTP/1.1 ") {
            status(&rest[..rest.len().min(3)], out);
            continue;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        name.clear();
        name.extend(line[..colon].iter().map(u8::to_ascii_lowercase));
        if !is_of_connection(&name) {
            field(&name, line[colon + 1..].trim_ascii(), out);
        }
    }
}

/// Whether a field, whose name is in lower case, has no place in HTTP/2.
pub(crate) fn is_of_connection(name: &[u8]) -> bool {
    matches!(name, b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade")
}
