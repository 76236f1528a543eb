//! What a proper request is, whatever it asks for, and what a response looks like, whatever it answers.

use httparse::{Error, Request};
use httpdate::fmt_http_date;
use std::fs::File;
use std::io::Take;
use std::time::SystemTime;

/// What a request may be long, but for its body, which none has here.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// A status line without the version: `404 Not Found`.
pub type Status = &'static str;

/// What is answered.
#[derive(Default)]
pub struct Response {
    pub status: Status,
    pub headers: String,
    pub text: String,
    /// What is left to be sent of the file.
    pub file: Option<Take<File>>,
    /// Nothing follows on this connection.
    pub is_last: bool,
}

impl Response {
    pub fn refusal(status: Status) -> Response {
        let text = format!("{status}\n");
        // Asked for only by who has used another method, and true in any case.
        let headers = format!("Allow: GET, HEAD\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", text.len());
        Response { status, headers, text, is_last: true, ..Response::default() }
    }

    /// Everything before the file.
    pub fn head(&self) -> String {
        let Response { status, headers, text, .. } = self;
        let date = fmt_http_date(SystemTime::now());
        let connection = if self.is_last { "Connection: close\r\n" } else { "" };
        format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{headers}{connection}\r\n{text}")
    }
}

/// The value of a header; of several, all of them between commas, which means the same.
pub fn header(request: &Request<'_, '_>, name: &str) -> Option<String> {
    let headers = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let values: Vec<_> = headers.map(|header| String::from_utf8_lossy(header.value)).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

/// Reads a request, and says how long it is; `None` if it is not there as a whole.
pub fn parse<'input>(request: &mut Request<'_, 'input>, input: &'input [u8]) -> Result<Option<usize>, Status> {
    match request.parse(input) {
        Ok(httparse::Status::Complete(len)) => Ok(Some(len)),
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
    if header(request, "host").map_or(is_persistent, |host| host.contains(',')) {
        return Err("400 Bad Request");
    }
    // A body is not read, so nothing behind it can be, either.
    Ok(!is_persistent
        || header(request, "transfer-encoding").is_some()
        || header(request, "content-length").is_some_and(|length| length != "0")
        || header(request, "connection").is_some_and(|options| options.to_ascii_lowercase().contains("close")))
}
