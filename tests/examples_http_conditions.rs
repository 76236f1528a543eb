//! `examples/http`: what a request makes a condition, by tag and by date, and which condition is looked at first.

mod common;
#[path = "common/examples.rs"]
mod examples;
mod http;

use common::LIMIT;
use examples::{connect, curl, curl_text, read_until};
use http::{PAGE, Site};
use std::fs;
use std::io::Write;
use std::time::{Duration, SystemTime};

const LONG_AGO: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
const LATER: &str = "Fri, 31 Dec 2100 23:59:59 GMT";

const HOUR: Duration = Duration::from_secs(3600);

/// The tag and the date of the page, as if it had been written at this time.
#[track_caller]
fn written(site: &Site, modified: SystemTime) -> (String, String) {
    let page = fs::File::options().write(true).open(site.directory.path().join("root/page.txt"));
    page.and_then(|page| page.set_modified(modified)).expect("the owner may say when that was");
    let answer = site.get("/page.txt", "");
    (answer.header("ETag").to_owned(), answer.header("Last-Modified").to_owned())
}

#[test]
fn another_version_is_sent_though_its_date_and_its_length_are_the_same() {
    let site = Site::new();
    let page = site.directory.path().join("root/page.txt");
    // Beyond what a date in HTTP can say, too.
    for date in
        [SystemTime::UNIX_EPOCH + Duration::from_secs(315_532_800), SystemTime::UNIX_EPOCH - Duration::from_secs(1)]
    {
        let (tag, _) = written(&site, date);
        let new = PAGE.to_ascii_uppercase();
        // As archives do it: the new file is made beside the old one, and takes its place.
        fs::write(page.with_extension("new"), &new).expect("a file can be written");
        fs::rename(page.with_extension("new"), &page).expect("a file can be renamed");
        let (new_tag, _) = written(&site, date);
        assert_ne!(new_tag, tag);
        let answer = site.get("/page.txt", &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((answer.status, answer.body.as_bytes()), (200, &new[..]));
    }
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let site = Site::new();
    let answer = site.get("/page.txt", "");
    let (tag, date) = (answer.header("ETag").to_owned(), answer.header("Last-Modified").to_owned());
    for (headers, status) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: \"other\", W/{tag}\r\n"), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"a,*,b\"\r\n".to_owned(), 200),
        ("If-None-Match: \"other\"\r\n".to_owned(), 200),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        ("If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT\r\n".to_owned(), 304),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(), 200),
        ("If-Modified-Since: yesterday\r\n".to_owned(), 200),
        // The tag is more precise than the date, so the date is not looked at.
        (format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {date}\r\n"), 200),
    ] {
        let answer = site.get("/page.txt", &headers);
        assert_eq!((answer.status, answer.body.is_empty()), (status, status == 304), "{headers}{answer:?}");
        assert_eq!(answer.header("ETag"), tag);
    }
}

#[test]
fn another_version_than_the_one_that_is_meant_is_not_sent() {
    let site = Site::new();
    let (tag, date) = written(&site, SystemTime::now() - HOUR);
    for (headers, status) in [
        (format!("If-Match: {tag}"), 200),
        (format!("If-Match: \"other\",{tag}"), 200),
        (format!("If-Match: \"other\"\r\nIf-Match: {tag}"), 200),
        ("If-Match: *".to_owned(), 200),
        ("If-Match: \"other\"".to_owned(), 412),
        // A star between quotes is part of a tag.
        ("If-Match: \"a,*,b\"".to_owned(), 412),
        // A weak tag says that the contents mean the same, which is not enough to put two parts together.
        (format!("If-Match: W/{tag}"), 412),
        (format!("If-Unmodified-Since: {date}"), 200),
        (format!("If-Unmodified-Since: {LATER}"), 200),
        (format!("If-Unmodified-Since: {LONG_AGO}"), 412),
        ("If-Unmodified-Since: yesterday".to_owned(), 200),
        // The tag is more precise than the date, so the date is not looked at.
        (format!("If-Match: {tag}\r\nIf-Unmodified-Since: {LONG_AGO}"), 200),
        (format!("If-Match: \"other\"\r\nIf-Unmodified-Since: {date}"), 412),
        // Which version is meant comes before whether the client has it, and that before which part is wanted.
        (format!("If-Match: \"other\"\r\nIf-None-Match: {tag}"), 412),
        (format!("If-Match: {tag}\r\nIf-None-Match: {tag}"), 304),
        (format!("If-Match: {tag}\r\nIf-None-Match: \"other\""), 200),
        (format!("If-Unmodified-Since: {LONG_AGO}\r\nIf-Modified-Since: {date}"), 412),
        (format!("If-Unmodified-Since: {date}\r\nIf-Modified-Since: {date}"), 304),
        ("If-Match: \"other\"\r\nRange: bytes=0-3".to_owned(), 412),
        (format!("If-Unmodified-Since: {LONG_AGO}\r\nRange: bytes=0-3"), 412),
        (format!("If-Match: {tag}\r\nRange: bytes=0-3"), 206),
        (format!("If-Unmodified-Since: {date}\r\nRange: bytes=0-3"), 206),
        (format!("If-None-Match: {tag}\r\nRange: bytes=0-3"), 304),
        (format!("If-Match: {tag}\r\nRange: bytes=99-"), 416),
    ] {
        let answer = site.get("/page.txt", &format!("{headers}\r\n"));
        assert_eq!(answer.status, status, "{headers}");
        let body = match status {
            200 => String::from_utf8_lossy(PAGE).into_owned(),
            206 => "0123".to_owned(),
            304 => String::new(),
            412 => "412 Precondition Failed\n".to_owned(),
            _ => continue,
        };
        assert_eq!(answer.body, body, "{headers}");
    }
}

#[test]
fn a_condition_is_not_looked_at_where_no_file_would_be_sent_without_it() {
    let site = Site::new();
    for header in ["If-Match: \"other\"", "If-None-Match: *", &format!("If-Unmodified-Since: {LONG_AGO}")] {
        assert_eq!(site.get("/nothing", &format!("{header}\r\n")).status, 404, "{header}");
        assert_eq!(site.get("/sub", &format!("{header}\r\n")).status, 301, "{header}");
    }
}

#[test]
fn a_condition_that_is_not_met_is_not_the_end_of_the_connection() {
    let site = Site::new();
    let mut stream = connect(site.server.address());
    for method in ["HEAD", "GET"] {
        let request = format!("{method} /page.txt HTTP/1.1\r\nHost: here\r\nIf-Match: \"other\"\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the server receives");
        let head = read_until(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 412 ") && head.contains("Content-Length: 24\r\n"), "{head}");
    }
    assert_eq!(read_until(&mut stream, "\n"), "412 Precondition Failed\n");
    stream.write_all(b"GET /page.txt HTTP/1.1\r\nHost: here\r\n\r\n").expect("the server receives");
    assert!(read_until(&mut stream, "so on\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_part_goes_only_with_another_part_of_the_same_version() {
    let site = Site::new();
    let (tag, date) = written(&site, SystemTime::now() - HOUR);
    for (version, status) in [
        (tag.as_str(), 206),
        (date.as_str(), 206),
        ("\"other\"", 200),
        (&format!("W/{tag}"), 200),
        // A list and a star are for the other conditions.
        (&format!("\"other\", {tag}"), 200),
        ("*", 200),
        (LONG_AGO, 200),
        // It was not changed since, but that is not the date of the part that the client has.
        (LATER, 200),
        ("yesterday", 200),
    ] {
        let answer = site.get("/page.txt", &format!("Range: bytes=0-3\r\nIf-Range: {version}\r\n"));
        assert_eq!(answer.status, status, "{version}");
        assert_eq!(answer.body.as_bytes(), if status == 206 { &PAGE[..4] } else { PAGE }, "{version}");
    }
}

#[test]
fn a_date_is_not_trusted_with_a_part_while_its_second_lasts() {
    let site = Site::new();
    // What is said to have been written later than now was written in this second, at any time.
    let (tag, mut date) = written(&site, SystemTime::now() + HOUR);
    let begin = SystemTime::now();
    let answer = loop {
        let answer = site.get("/page.txt", &format!("Range: bytes=0-3\r\nIf-Range: {date}\r\n"));
        // Otherwise another second has begun meanwhile.
        if answer.header("Last-Modified") == date {
            break answer;
        }
        answer.header("Last-Modified").clone_into(&mut date);
        assert!(begin.elapsed().is_ok_and(|elapsed| elapsed < LIMIT), "no two answers come within a second");
    };
    assert_eq!((answer.status, answer.body.as_bytes()), (200, PAGE));
    assert_eq!(site.get("/page.txt", &format!("Range: bytes=0-3\r\nIf-Range: {tag}\r\n")).status, 206);
}

#[test]
#[ignore = "needs curl"]
fn curl_does_not_put_two_versions_together() {
    let site = Site::new();
    let (tag, date) = written(&site, SystemTime::now() - HOUR);
    let conditions = [format!("If-Match: {tag}"), format!("If-Unmodified-Since: {date}")];
    let (copy, url) = (site.directory.file("copy"), site.url("/page.txt"));
    for condition in &conditions {
        fs::write(&copy, &PAGE[..5]).expect("a file can be written");
        curl_text(["--fail", "--continue-at", "-", "--header", condition, "--output", &copy, &url]);
        assert_eq!(fs::read(&copy).expect("curl has written it"), PAGE, "{condition}");
    }
    fs::write(site.directory.path().join("root/page.txt"), "another version").expect("a file can be written");
    for condition in &conditions {
        fs::write(&copy, &PAGE[..5]).expect("a file can be written");
        let args = ["--fail", "--continue-at", "-", "--header", condition, "--output", &copy, &url];
        let stderr = String::from_utf8(curl(args).stderr).expect("text");
        assert!(stderr.contains("412"), "{condition}: {stderr}");
        assert_eq!(fs::read(&copy).expect("it is still there"), &PAGE[..5], "{condition}");
    }
}
