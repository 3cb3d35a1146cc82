//! The table that both sides know (RFC 7541, appendix A).

/// Its entries; the first has the index 1.
pub(super) static STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The first index of a name, which is in lower case.
pub(super) fn index_of(name: &[u8]) -> Option<usize> {
    // Statuses are asked for apart, and the other pseudo-headers are requests'.
    STATIC_TABLE[14..].iter().position(|(other, _)| other.as_bytes() == name).map(|at| at + 15)
}

/// The index of `:status` with this value.
pub(super) fn index_of_status(code: &[u8]) -> Option<usize> {
    STATIC_TABLE[7..14].iter().position(|(_, value)| value.as_bytes() == code).map(|at| at + 8)
}

/// Where `:status` first stands.
pub(super) const STATUS_INDEX: usize = 8;

/// Where a request's parts stand; of its method and schemes with their values.
pub(super) const AUTHORITY_INDEX: usize = 1;
pub(super) const METHOD_GET_INDEX: usize = 2;
pub(super) const PATH_INDEX: usize = 4;
pub(super) const SCHEME_HTTP_INDEX: usize = 6;
pub(super) const SCHEME_HTTPS_INDEX: usize = 7;
