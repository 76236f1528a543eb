//! What a request asks for: a file or a part of it, the news that it has not changed, or why there is nothing.

use crate::date::Date;
use crate::request::{Request, Status};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const NOT_FOUND: Status = "404 Not Found";

/// What is answered.
pub struct Response {
    status: Status,
    headers: String,
    pub body: Body,
}

pub enum Body {
    None,
    Text(String),
    File(File, Range<u64>),
}

impl Response {
    pub fn refusal(status: Status) -> Response {
        let text = format!("{status}\n");
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let headers = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n{allow}", text.len());
        Response { status, headers, body: Body::Text(text) }
    }

    /// Everything before the body.
    pub fn head(&self, is_last: bool) -> String {
        let connection = if is_last { "Connection: close\r\n" } else { "" };
        let Response { status, headers, .. } = self;
        format!("HTTP/1.1 {status}\r\nDate: {}\r\n{headers}{connection}\r\n", Date::of(SystemTime::now()))
    }
}

/// The real path of a directory.
pub fn directory(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    if path.is_dir() { Ok(path) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// Finds what is asked for below `root`, which is a real path: without links.
pub fn find(root: &Path, request: &Request) -> Result<Response, Status> {
    let mut path = root.join(request.path.as_ref().map_err(|status| *status)?);
    if request.raw_path.ends_with('/') {
        path.push("index.html");
    }
    // Links are followed before anybody asks where this is, so one that leads out is not served.
    let path = path.canonicalize().map_err(|error| status(&error))?;
    if !path.starts_with(root) {
        return Err(NOT_FOUND);
    }
    let kind = fs::metadata(&path).map_err(|error| status(&error))?;
    if kind.is_dir() {
        let headers = format!("Location: {}/\r\nContent-Length: 0\r\n", request.raw_path);
        return Ok(Response { status: "301 Moved Permanently", headers, body: Body::None });
    }
    // To open a pipe or a device may block, or do something.
    if !kind.is_file() {
        return Err(NOT_FOUND);
    }
    let file = File::open(&path).map_err(|error| status(&error))?;
    answer(request, file, content_type(&path)).map_err(|error| status(&error))
}

fn status(error: &io::Error) -> Status {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => NOT_FOUND,
        ErrorKind::PermissionDenied => "403 Forbidden",
        // Links in a circle, out of descriptors, a broken disk.
        _ => "503 Service Unavailable",
    }
}

/// Answers with the file, or with the part of it that is asked for and that the client does not have yet.
fn answer(request: &Request, mut file: File, content_type: &str) -> io::Result<Response> {
    let metadata = file.metadata()?;
    let (len, modified) = (metadata.len(), metadata.modified()?);
    let nanos = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let (date, etag) = (Date::of(modified), format!("\"{nanos:x}-{len:x}\""));
    let known = format!("ETag: {etag}\r\nLast-Modified: {date}\r\nAccept-Ranges: bytes\r\n");
    let is_known = match request.header("if-none-match") {
        Some(tags) => {
            tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag)
        }
        None => request.header("if-modified-since").and_then(Date::parse).is_some_and(|since| date <= since),
    };
    if is_known {
        return Ok(Response { status: "304 Not Modified", headers: known, body: Body::None });
    }
    // A part of another version is of no use.
    let is_same_version =
        request.header("if-range").is_none_or(|version| version == etag || version == date.to_string());
    let range = request.header("range").filter(|_| is_same_version && !request.is_head);
    let (status, range, content_range) = match range.and_then(|range| parse_range(range, len)) {
        None => ("200 OK", 0..len, String::new()),
        Some(range) if range.is_empty() => {
            let refusal = Response::refusal("416 Range Not Satisfiable");
            return Ok(Response { headers: format!("{}Content-Range: bytes */{len}\r\n", refusal.headers), ..refusal });
        }
        Some(range) => {
            let header = format!("Content-Range: bytes {}-{}/{len}\r\n", range.start, range.end - 1);
            ("206 Partial Content", range, header)
        }
    };
    file.seek(SeekFrom::Start(range.start))?;
    let count = range.end - range.start;
    let headers = format!("Content-Type: {content_type}\r\nContent-Length: {count}\r\n{known}{content_range}");
    Ok(Response { status, headers, body: Body::File(file, range) })
}

/// Which bytes `bytes=…` means; an empty range if there are none such, `None` if all are to be sent because it is not
/// understood, or means several parts.
fn parse_range(range: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| if text.starts_with('+') { None } else { text.parse::<u64>().ok() };
    match (first, last) {
        ("", last) => Some(len.saturating_sub(number(last)?)..len),
        (first, "") => Some(number(first)?.min(len)..len),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| first.min(len)..last.saturating_add(1).min(len))
        }
    }
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" | "rs" | "toml" => "text/plain; charset=utf-8",
        "css" => "text/css",
        "js" => "text/javascript",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        _ => "application/octet-stream",
    }
}
