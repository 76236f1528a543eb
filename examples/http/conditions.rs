//! What a request makes a condition: that its client does not have this version yet, or that it still is the one that the
//! client knows (RFC 9110, section 13).

use crate::request::header;
use crate::response::Response;
use httparse::Request;
use httpdate::{HttpDate, parse_http_date};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Which version of a file this is.
pub struct Version {
    etag: String,
    modified: HttpDate,
    /// The second of that date is over, so no further version will have the same date.
    has_settled: bool,
}

impl Version {
    pub fn of(metadata: &Metadata) -> io::Result<Version> {
        let (modified, now) = (metadata.modified()?, SystemTime::now());
        // Two versions may well have the same length and, in an archive say, the same date. Nobody chooses when an inode changes.
        let (inode, second, nanos) = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        let etag = format!("\"{inode:x}-{second:x}-{nanos:x}-{:x}\"", metadata.len());
        // A file may be of any time; a date in HTTP may not.
        let modified = HttpDate::from(modified.clamp(UNIX_EPOCH, now));
        Ok(Version { etag, modified, has_settled: modified < now.into() })
    }

    /// The header lines that tell a client what it can make a condition of.
    pub fn headers(&self) -> String {
        format!("ETag: {}\r\nLast-Modified: {}\r\n", self.etag, self.modified)
    }

    /// What is answered instead of the file if a condition is not met, in the order of section 13.2.2: first whether this is
    /// the version that is meant, then whether the client has it already. Where there is a tag, which is more precise, the date
    /// is not looked at.
    pub fn instead(&self, request: &Request<'_, '_>) -> Option<Response> {
        let is_meant = match header(request, "if-match") {
            // A weak one is never the same here: it may stand for other bytes that mean as much.
            Some(tags) => self.is_among(&tags, false),
            None => date(request, "if-unmodified-since").is_none_or(|since| self.modified <= since),
        };
        if !is_meant {
            return Some(Response::refusal("412 Precondition Failed"));
        }
        let is_known = match header(request, "if-none-match") {
            Some(tags) => self.is_among(&tags, true),
            None => date(request, "if-modified-since").is_some_and(|since| self.modified <= since),
        };
        is_known.then(|| Response { status: "304 Not Modified", headers: self.headers(), ..Response::default() })
    }

    /// Whether a part of this version is of use: the client has no other part, or has it of this version.
    pub fn goes_with_part(&self, request: &Request<'_, '_>) -> bool {
        let Some(part) = header(request, "if-range") else { return true };
        // A date counts only if it cannot be that of two versions (section 13.1.5). That no further one will have it is seen
        // here; that there was no other before is for the client to know, who must have got the date in a later second.
        part == self.etag || self.has_settled && parse_http_date(&part).is_ok_and(|date| self.modified == date.into())
    }

    fn is_among(&self, tags: &str, may_be_weak: bool) -> bool {
        let is_same = |tag: &str| tag == self.etag || may_be_weak && tag.strip_prefix("W/") == Some(&self.etag);
        tags.trim() == "*" || tags.split(',').any(|tag| is_same(tag.trim()))
    }
}

/// The date in a header; `None` also if it is none, which is to be ignored.
fn date(request: &Request<'_, '_>, name: &str) -> Option<HttpDate> {
    header(request, name).and_then(|date| parse_http_date(&date).ok()).map(HttpDate::from)
}
