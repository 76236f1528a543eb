//! What a request asks for: a file or a part of it, or why there is nothing.

use crate::conditions::Version;
use crate::request::header;
use crate::response::{Response, Status};
use httparse::Request;
use mime_guess::{Mime, mime::TEXT};
use percent_encoding::percent_decode_str;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How to open a directory on the way to something. Where the system can tell that from reading it, it need not be readable.
#[cfg(target_os = "linux")]
const THROUGH: OFlags = OFlags::DIRECTORY.union(OFlags::PATH);
#[cfg(not(target_os = "linux"))]
const THROUGH: OFlags = OFlags::DIRECTORY;

/// Finds what is asked for below `root`, which is a real path: without links.
pub fn find(root: &Path, request: &Request<'_, '_>) -> Result<Response, Status> {
    // What is asked for is a path or a whole URL.
    let target = request.path.unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    let raw = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            match rest.find('/').unwrap_or(rest.len()) {
                // Without a host it is no URL.
                0 => "",
                all if all == rest.len() => "/",
                host => &rest[host..],
            }
        }
        _ => target,
    };
    // A backslash belongs to no URL, and browsers take it for a slash: a `Location` with it might lead to another host.
    if !raw.starts_with('/') || !raw.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err("400 Bad Request");
    }
    let mut path = root.to_owned();
    for name in raw.split('/').filter(|name| !name.is_empty()) {
        let name: Vec<u8> = percent_decode_str(name).collect();
        // A name that begins with a dot is never found: this is `..`, and also `.git`.
        if name.starts_with(b".") || name.contains(&0) || name.contains(&b'/') {
            return Err("404 Not Found");
        }
        path.push(OsStr::from_bytes(&name));
    }
    if raw.ends_with('/') {
        path.push("index.html");
    }
    open(root, &path, raw, request).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => "404 Not Found",
        ErrorKind::PermissionDenied => "403 Forbidden",
        // Links in a circle, out of descriptors, a broken disk.
        _ => "503 Service Unavailable",
    })
}

fn open(root: &Path, path: &Path, raw: &str, request: &Request<'_, '_>) -> io::Result<Response> {
    // Links are followed before anybody asks where this is, so one that leads out is not served.
    let path = path.canonicalize()?;
    let below = path.strip_prefix(root).map_err(|_| ErrorKind::NotFound)?;
    let kind = fs::symlink_metadata(&path)?;
    // Who has asked for an index, which is a directory here, would be sent on for ever.
    if kind.is_dir() && !raw.ends_with('/') {
        let headers = format!("Location: /{}/\r\nContent-Length: 0\r\n", raw.trim_start_matches('/'));
        return Ok(Response { status: "301 Moved Permanently", headers, ..Response::default() });
    }
    // To open a pipe or a device may block, or do something.
    if !kind.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    answer(request, open_real(root, below)?, &mime_guess::from_path(&path).first_or_octet_stream())
}

/// Opens what has a path without links, name by name: what has been given one of the names since then is not followed if it is a
/// link, and not waited for if it is a pipe.
fn open_real(root: &Path, below: &Path) -> io::Result<File> {
    let mut file = rustix::fs::open(root, THROUGH | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = below.iter().peekable();
    while let Some(name) = names.next() {
        let flags = if names.peek().is_some() { THROUGH } else { OFlags::RDONLY | OFlags::NONBLOCK };
        file = rustix::fs::openat(&file, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    }
    Ok(file.into())
}

/// Answers with the file, or with the part of it that is asked for, unless the request makes a condition that is not met.
fn answer(request: &Request<'_, '_>, mut file: File, mime: &Mime) -> io::Result<Response> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let (len, version) = (metadata.len(), Version::of(&metadata)?);
    if let Some(response) = version.instead(request) {
        return Ok(response);
    }
    let range = header(request, "range").filter(|_| request.method == Some("GET") && version.goes_with_part(request));
    let (status, part, content_range) = match range.and_then(|range| parse_range(&range, len)) {
        None => ("200 OK", 0..len, String::new()),
        Some(range) if range.is_empty() => {
            let refusal = Response::refusal("416 Range Not Satisfiable");
            return Ok(Response { headers: format!("{}Content-Range: bytes */{len}\r\n", refusal.headers), ..refusal });
        }
        Some(part) => {
            let header = format!("Content-Range: bytes {}-{}/{len}\r\n", part.start, part.end - 1);
            ("206 Partial Content", part, header)
        }
    };
    file.seek(SeekFrom::Start(part.start))?;
    let file = file.take(part.end - part.start);
    let charset = if mime.type_() == TEXT { "; charset=utf-8" } else { "" };
    let (length, known) = (file.limit(), version.headers());
    let headers = format!(
        "Content-Type: {mime}{charset}\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\n{known}{content_range}"
    );
    Ok(Response { status, headers, file: Some(file), ..Response::default() })
}

/// Which bytes `bytes=…` means; an empty range if there are none such, `None` if all are to be sent because it is not
/// understood, or means several parts.
fn parse_range(range: &str, len: u64) -> Option<Range<u64>> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
    // A number that is too large to be one here is behind the end of every file.
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| is_number(text).then(|| text.parse::<u64>().unwrap_or(u64::MAX));
    match (first, last) {
        // The last bytes of nothing are nothing, which is no part that could be named.
        ("", last) if len == 0 && number(last)? > 0 => None,
        ("", last) => Some(len.saturating_sub(number(last)?)..len),
        (first, "") => Some(number(first)?.min(len)..len),
        _ if number(first)? > number(last)? => None,
        _ => Some(number(first)?.min(len)..number(last)?.saturating_add(1).min(len)),
    }
}
