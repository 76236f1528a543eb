//! What was received, understood: the part of RFC 9112 that a server of files needs, and no more lenient than it must be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A status line without the version: `404 Not Found`.
pub type Status = &'static str;

const BAD: Status = "400 Bad Request";

/// A request for a file.
pub struct Request {
    /// Only the headers are wanted.
    pub is_head: bool,
    /// Nothing will follow on this connection.
    pub is_last: bool,
    /// Which file, relative to the directory that is served; made of plain names only. Or why there can be none.
    pub path: Result<PathBuf, Status>,
    /// The path as it was written, without the query; begins with one slash.
    pub raw_path: String,
    headers: Vec<(String, String)>,
}

/// Where the first request in `input` ends, after its empty line.
pub fn end_of_head(input: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    for (index, _) in input.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        // Clients are to end lines with CR LF; people with `nc` cannot. An empty line before the request does not end it.
        if matches!(&input[line_start..index], b"" | b"\r") && line_start > 0 {
            return Some(index + 1);
        }
        line_start = index + 1;
    }
    None
}

impl Request {
    /// Understands the head of a request, or says with which status to refuse it.
    pub fn parse(head: &[u8]) -> Result<Request, Status> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.trim_matches(['\r', '\n']).split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, version] = line[..] else { return Err(BAD) };
        let is_persistent = match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ if version.starts_with("HTTP/") => return Err("505 HTTP Version Not Supported"),
            _ => return Err(BAD),
        };
        let headers = lines.map(header).collect::<Option<Vec<_>>>().ok_or(BAD)?;
        let is_head = match method {
            "GET" => false,
            "HEAD" => true,
            "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "TRACE" | "CONNECT" => {
                return Err("405 Method Not Allowed");
            }
            _ => return Err("501 Not Implemented"),
        };
        let hosts = headers.iter().filter(|(name, _)| name == "host").count();
        if hosts > 1 || hosts == 0 && is_persistent {
            return Err(BAD);
        }
        let raw_path = raw_path(target).ok_or(BAD)?;
        let path = path(&raw_path);
        let mut request = Request { is_head, is_last: false, path, raw_path, headers };
        let has_body = request.header("transfer-encoding").is_some()
            || request.header("content-length").is_some_and(|length| length != "0");
        let mut options = request.header("connection").unwrap_or_default().split(',').map(str::trim);
        let is_closing = options.any(|option| option.eq_ignore_ascii_case("close"));
        // A body is not read, so nothing behind it can be, either.
        request.is_last = !is_persistent || is_closing || has_body;
        Ok(request)
    }

    /// The value of a header, whose name is given in small letters; of several, the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    let is_value = !value.contains(|char: char| char.is_control() && char != '\t');
    (is_name && is_value).then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// The path in what a request asks for, which is a path or a whole URL; it begins with one slash.
fn raw_path(target: &str) -> Option<String> {
    let target = target.split(['?', '#']).next()?;
    let path = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    is_path.then(|| format!("/{}", path.trim_start_matches('/')))
}

/// The names in a path. A name that begins with a dot is never found: this is `..`, and also `.git`.
fn path(raw: &str) -> Result<PathBuf, Status> {
    let mut path = PathBuf::new();
    for name in raw.split('/').filter(|name| !name.is_empty()) {
        let name = percent_decode(name).ok_or(BAD)?;
        if name.contains(&0) || name.contains(&b'/') {
            return Err(BAD);
        }
        if name.starts_with(b".") {
            return Err("404 Not Found");
        }
        path.push(OsStr::from_bytes(&name));
    }
    Ok(path)
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
                u8::try_from(high * 16 + low).ok()?
            }
            _ => byte,
        });
    }
    Some(decoded)
}
