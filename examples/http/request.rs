//! What a proper request is, whatever it asks for.

use crate::response::Status;
use httparse::{Error, Request};
use std::net::Ipv6Addr;

/// What a request may be long, but for its body, which none has here.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// The value of a header; of several, all of them between commas, which means the same.
pub fn header(request: &Request<'_, '_>, name: &str) -> Option<String> {
    let headers = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let values: Vec<_> = headers.map(|header| String::from_utf8_lossy(header.value)).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

/// Reads a request, and says how long it is; `None` if it is not there as a whole.
pub fn parse<'input>(request: &mut Request<'_, 'input>, input: &'input [u8]) -> Result<Option<usize>, Status> {
    match request.parse(input) {
        // However it has come: a part of it may have been longer than that before its end was there.
        Ok(httparse::Status::Complete(len)) if len <= REQUEST_BYTES_MAX => Ok(Some(len)),
        Ok(httparse::Status::Partial) if input.len() <= REQUEST_BYTES_MAX => Ok(None),
        Ok(_) | Err(Error::TooManyHeaders) => Err("431 Request Header Fields Too Large"),
        Err(Error::Version) => Err("505 HTTP Version Not Supported"),
        Err(_) => Err("400 Bad Request"),
    }
}

/// Whether nothing can follow this request on its connection; or why it is refused.
pub fn is_last(request: &Request<'_, '_>) -> Result<bool, Status> {
    match request.method.unwrap_or_default() {
        "GET" | "HEAD" => {}
        "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "TRACE" | "CONNECT" => return Err("405 Method Not Allowed"),
        _ => return Err("501 Not Implemented"),
    }
    let is_persistent = request.version == Some(1);
    // HTTP/1.0 did without a host. (Several of them are no host, as none has a blank in it.)
    let has_host = header(request, "host").map_or(!is_persistent, |host| is_host(&host));
    let length = header(request, "content-length");
    if !has_host || length.as_deref().is_some_and(|length| !is_length(length)) {
        return Err("400 Bad Request");
    }
    // A body is not read, so nothing behind it can be, either.
    Ok(!is_persistent
        || header(request, "transfer-encoding").is_some()
        || length.is_some_and(|length| length != "0")
        || header(request, "connection").is_some_and(|options| options.to_ascii_lowercase().contains("close")))
}

/// Whether this is a name or an address, or nothing, and perhaps a port (RFC 9110, section 7.2).
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // The colons between brackets are part of an address.
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    let is_name = || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte));
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    port.bytes().all(|byte| byte.is_ascii_digit())
        && address.map_or_else(is_name, |address| address.parse::<Ipv6Addr>().is_ok())
}

/// Whether this is a length, perhaps said several times (RFC 9112, section 6.3). How large it is does not matter to who does not
/// read so much.
fn is_length(length: &str) -> bool {
    let mut lengths = length.split(',').map(str::trim);
    let first = lengths.next().unwrap_or_default();
    !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) && lengths.all(|other| other == first)
}
