//! A request head as the rest of the server sees it: what matters of it, already checked, borrowed from the
//! input.

use super::coding;
use super::conditional::Conditions;
use super::{parse, target};

/// Request methods, as far as they are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS: what is allowed, of a resource or (`*`) of the server.
    Options,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// A registered method that no resource here allows: 405.
    NotAllowed,
    /// A method we never heard of: 501.
    Unknown,
}

impl Method {
    /// The method named `token`; names are case-sensitive (RFC 9110 section 9.1).
    pub fn from_token(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"POST" | b"CONNECT" | b"TRACE" | b"PATCH" => Method::NotAllowed,
            // Registered by WebDAV (RFC 4918) and known to every client of it.
            b"PROPFIND" | b"PROPPATCH" | b"MKCOL" | b"COPY" | b"MOVE" | b"LOCK" | b"UNLOCK" => {
                Method::NotAllowed
            }
            _ => Method::Unknown,
        }
    }
}

/// The version of HTTP that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As a log has it.
    pub fn name(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
        }
    }
}

/// What a request says of its content, beside its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentIs {
    /// Nothing: it is all, and as it is.
    #[default]
    Plain,
    /// `Content-Range`: it is a part.
    Part,
    /// `Content-Encoding`: it is in a coding.
    Coded,
}

/// A checked request head.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// All of the head as it came: checked, every line ended by CR LF.
    pub head: &'a [u8],
    /// The method.
    pub method: Method,
    /// The method's name as sent.
    pub method_name: &'a str,
    /// The request target as sent.
    pub target: &'a str,
    /// The `Host` field; empty if it did not come. Which host is asked for is what [`Request::authority`]
    /// says.
    pub host: &'a [u8],
    /// The version that it came by.
    pub version: Version,
    /// Whether the client wants the connection kept, by version and `Connection` field.
    pub keep_alive: bool,
    /// Bytes of content that follow the head (`Content-Length`).
    pub content_length: u64,
    /// Content in chunks follows the head instead; by HTTP/2, content in frames whose length is not said.
    pub is_chunked: bool,
    /// Whether the client waits for `100 Continue` before it sends the content.
    pub expects_continue: bool,
    /// `Accept`; empty if it did not come, or more than once.
    pub accept: &'a [u8],
    /// `Accept-Encoding`, as it came.
    pub accept_encoding: coding::Lines<'a>,
    /// `Available-Dictionary`; empty if it did not come, or more than once.
    pub available_dictionary: &'a [u8],
    /// `Range`, unless it came more than once.
    pub range: Option<&'a [u8]>,
    /// The conditional fields.
    pub conditions: Conditions<'a>,
    /// `Authorization`; empty if it did not come, or more than once.
    pub authorization: &'a [u8],
    /// Whether the content is said to be part of something, or in a coding.
    pub content_is: ContentIs,
    /// `Referer`, for the log.
    pub referer: &'a [u8],
    /// `User-Agent`, for the log.
    pub user_agent: &'a [u8],
}

impl Request<'_> {
    /// The host that is asked for, and perhaps its port: as the target says if it is in absolute-form, then
    /// as `Host` does (RFC 9112 section 3.2.2). Empty if nothing says it.
    pub fn authority(&self) -> &[u8] {
        let absolute = self.target.split_once("://").filter(|_| !self.target.starts_with('/'));
        let Some((_, rest)) = absolute else { return self.host };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        &rest.as_bytes()[..end]
    }

    /// The host that is asked for, without its port; `None` if none is named, or it is none that could be.
    pub fn host_name(&self) -> Option<&[u8]> {
        let authority = self.authority();
        if !parse::is_host(authority) {
            return None;
        }
        Some(target::host_of(authority)).filter(|name| !name.is_empty())
    }
}
