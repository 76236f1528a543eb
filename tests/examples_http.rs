//! `examples/http`: files to whoever asks properly, a clear answer to whoever does not, and nothing of what lies outside.

mod common;
#[path = "common/examples.rs"]
mod examples;
mod http;

use common::LIMIT;
use examples::{connect, converse, curl, curl_text, read_to_end, read_until};
use http::{Answer, PAGE, SECRET, Site};
use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[test]
fn a_file_comes_with_its_length_type_date_and_tag() {
    let site = Site::new();
    let answer = site.get("/page.txt?query", "");
    assert_eq!((answer.status, answer.body.as_bytes()), (200, PAGE));
    assert_eq!(answer.header("Content-Length"), PAGE.len().to_string());
    assert_eq!(answer.header("Content-Type"), "text/plain; charset=utf-8");
    assert!(answer.header("Last-Modified").ends_with(" GMT") && answer.header("ETag").starts_with('"'), "{answer:?}");
    assert_eq!(site.get("/a%20b", "").body, "a space");
    assert_eq!(site.get("/alias", "").body.as_bytes(), PAGE);
    assert_eq!(site.get("http://elsewhere:80/page.txt", "").body.as_bytes(), PAGE);
    assert_eq!(site.get("HTTP://elsewhere/page.txt", "").body.as_bytes(), PAGE);
    assert_eq!(site.get("/sub/", "").header("Content-Type"), "text/html; charset=utf-8");
    let moved = site.get("//sub", "");
    assert_eq!((moved.status, moved.header("Location")), (301, "/sub/"));
    let empty = site.get("/empty", "");
    assert_eq!((empty.status, empty.header("Content-Length"), empty.body.as_str()), (200, "0", ""));
}

#[test]
fn a_directory_that_is_called_like_an_index_sends_nobody_on_for_ever() {
    let site = Site::new();
    fs::create_dir(site.directory.path().join("root/index.html")).expect("a directory can be made");
    assert_eq!(site.get("/", "").status, 404);
    let moved = site.get("/index.html", "");
    assert_eq!((moved.status, moved.header("Location")), (301, "/index.html/"));
    assert_eq!(site.get("/index.html/", "").status, 404);
    fs::write(site.directory.path().join("root/index.html/index.html"), "<p>").expect("a file can be written");
    assert_eq!(site.get("/index.html/", "").body, "<p>");
}

#[test]
fn nobody_is_sent_on_to_another_host() {
    let site = Site::new();
    let directory = site.directory.path().join("root/\\elsewhere.example");
    fs::create_dir(directory).expect("a directory can be made");
    assert_eq!(site.get("//sub", "").header("Location"), "/sub/");
    // Browsers take a backslash for a slash.
    assert_eq!(site.get("/\\elsewhere.example", "").status, 400);
    assert_eq!(site.get("/%5celsewhere.example", "").header("Location"), "/%5celsewhere.example/");
}

#[test]
fn a_file_of_any_time_is_served() {
    let site = Site::new();
    let path = site.directory.path().join("root/page.txt");
    for modified in
        [UNIX_EPOCH - Duration::from_secs(86_400), UNIX_EPOCH, SystemTime::now() + Duration::from_secs(86_400)]
    {
        let file = fs::File::options().write(true).open(&path).expect("the file is there");
        file.set_modified(modified).expect("the owner may say when that was");
        let answer = site.get("/page.txt", "");
        assert_eq!((answer.status, answer.body.as_bytes()), (200, PAGE), "{modified:?}");
        // A date that is yet to come would be wrong: who asks again later would be told that nothing has changed.
        let [modified_on, now] =
            ["Last-Modified", "Date"].map(|name| httpdate::parse_http_date(answer.header(name)).ok());
        assert!(modified_on.is_some() && modified_on <= now, "{answer:?}");
        let tag = answer.header("ETag");
        assert_eq!(site.get("/page.txt", &format!("If-None-Match: {tag}\r\n")).status, 304, "{modified:?}");
    }
}

#[test]
fn no_path_leads_out_of_the_directory() {
    let site = Site::new();
    let outside = site.directory.file("outside");
    let paths = [
        "/../outside",
        "/..%2foutside",
        "/%2e%2e/outside",
        "/%2E%2e%2Foutside",
        "/sub/../../outside",
        "/./../outside",
        "/.%2e/outside",
        "//../outside",
        "/link",
        "/up/outside",
        "/neighbour/file",
        &outside,
        &format!("/{outside}"),
        "/%2fetc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/sub/.git/config",
        "/sub%2f.git/config",
        "/page.txt%00.html",
        "/page.txt/",
        "/page.txt/../../outside",
        "/..",
        "/.",
        "/up",
        "/up/",
        "/..%5coutside",
        "/fifo",
        "/circle",
        "/%",
        "/%2",
        "/%zz",
        "../outside",
        "outside",
        "*",
        "file:///etc/passwd",
        "http://here/../outside",
        "/%ff%fe",
    ]; // All of them are refused at once, too: none waits for a writer of the pipe.
    for path in paths {
        let answer = site.get(path, "");
        assert!((400..=503).contains(&answer.status) && answer.status != 500, "{path}: {answer:?}");
        assert!(!answer.body.contains(SECRET) && !answer.body.contains("root"), "{path}: {answer:?}");
    }
    let long = format!("/{}", "x".repeat(4000));
    assert_eq!(site.get(&long, "").status, 404);
    site.assert_serves();
}

#[test]
fn a_whole_url_is_as_good_as_a_path_if_it_names_a_host() {
    let site = Site::new();
    for (url, status) in [
        ("http://here/page.txt", 200),
        ("HTTPS://here:8080/sub/?query", 200),
        ("http://here", 404),
        ("http://here?query", 404),
        ("http:///page.txt", 400),
        ("http://", 400),
        ("http://?query", 400),
    ] {
        assert_eq!(site.get(url, "").status, status, "{url}");
    }
}

#[test]
fn a_range_is_exactly_what_was_asked_for() {
    let site = Site::new();
    let len = PAGE.len();
    let all = String::from_utf8_lossy(PAGE).into_owned();
    for (headers, status, body) in [
        ("Range: bytes=0-3", 206, "0123"),
        ("Range: bytes=4-4", 206, "4"),
        ("Range: bytes=11-", 206, &all[11..]),
        ("Range: bytes=-3", 206, "on\n"),
        ("Range: bytes=-1000", 206, &all),
        ("Range: bytes=19-18446744073709551615", 206, "n\n"),
        ("Range: bytes=19-99999999999999999999999", 206, "n\n"),
        ("Range: bytes=-99999999999999999999999", 206, &all),
        ("Range: Bytes=0-3", 206, "0123"),
        ("Range: bytes=3-2", 200, &all),
        ("Range: bytes=0-1,4-5", 200, &all),
        ("Range: lines=1-2", 200, &all),
        ("Range: bytes=+1-2", 200, &all),
        ("Range: bytes=0-3x", 200, &all),
        ("Range: bytes=-", 200, &all),
    ] {
        let answer = site.get("/page.txt", &format!("{headers}\r\n"));
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{headers}");
        assert_eq!(answer.header("Content-Length"), body.len().to_string(), "{headers}");
    }
    assert_eq!(site.get("/page.txt", "Range: bytes=4-6\r\n").header("Content-Range"), format!("bytes 4-6/{len}"));
    for range in ["21-", "99-100", "-0", "99999999999999999999999-"] {
        let answer = site.get("/page.txt", &format!("Range: bytes={range}\r\n"));
        assert_eq!((answer.status, answer.header("Content-Range")), (416, "bytes */21"), "{range}");
    }
    // Of an empty file there is no byte 0; but its last five are all that it has, however few.
    for (range, status) in [("0-", 416), ("0-0", 416), ("-0", 416), ("-5", 200)] {
        assert_eq!(site.get("/empty", &format!("Range: bytes={range}\r\n")).status, status, "{range}");
    }
}

#[test]
fn a_head_request_gets_the_headers_alone() {
    let site = Site::new();
    for path in ["/page.txt", "/nothing", "/.git"] {
        let head = site.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: here\r\n\r\n"));
        let get = site.get(path, "");
        assert_eq!((head.status, head.header("Content-Length")), (get.status, get.header("Content-Length")));
        assert_eq!(head.body, "");
    }
    // A part is what `GET` alone may ask for.
    assert_eq!(site.ask("HEAD /page.txt HTTP/1.1\r\nHost: here\r\nRange: bytes=0-3\r\n\r\n").status, 200);
    // One that is refused, too, and one that is no proper request.
    for headers in ["", "Host : here\r\n", "Host: here\r\n folded\r\n"] {
        let refused = site.ask(&format!("HEAD /page.txt HTTP/1.1\r\n{headers}\r\n"));
        assert_eq!((refused.status, &refused.body[..]), (400, ""), "{headers}");
    }
}

#[test]
fn many_requests_go_through_one_connection() {
    let site = Site::new();
    let mut stream = connect(site.server.address());
    let request = "GET /page.txt HTTP/1.1\r\nHost: here\r\n\r\n";
    for _ in 0..100 {
        stream.write_all(request.as_bytes()).expect("the server receives");
        read_until(&mut stream, "\r\n\r\n");
        read_until(&mut stream, "so on\n");
    }
    // And all at once, with one that ends it:
    let last = "GET /page.txt HTTP/1.1\r\nHost: here\r\nConnection: Close\r\n\r\n";
    stream.write_all(format!("{}{last}", request.repeat(100)).as_bytes()).expect("the server receives");
    let answers = String::from_utf8(read_to_end(&mut stream)).expect("text");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 101);
    assert_eq!(answers.matches("Connection: close").count(), 1);
}

#[test]
fn a_request_that_is_none_gets_a_clear_answer_and_the_end() {
    let site = Site::new();
    let huge = format!("GET / HTTP/1.1\r\nHost: here\r\nX: {}", "x".repeat(100_000));
    for (request, status) in [
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        ("GET /page.txt\r\n\r\n", 400),
        ("GET /page.txt HTTP/1.1\r\n\r\n", 400),
        ("GET /page.txt HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /page.txt HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET /page.txt HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET /page.txt HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
        ("GET /page.txt HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
        ("GET /page.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\n", 505),
        ("POST /page.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("BREW /page.txt HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (&huge, 431),
    ] {
        // Something that would be another request follows, and must not be taken for one.
        let mut stream = connect(site.server.address());
        let smuggled = format!("{request}GET /page.txt HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(smuggled.as_bytes()).expect("the server receives");
        let answer = Answer::parse(&read_to_end(&mut stream));
        assert_eq!(answer.status, status, "{:?}", &request[..request.len().min(80)]);
        assert_eq!(answer.header("Connection"), "close");
        assert!(!answer.body.contains("and so on"), "{answer:?}");
    }
    // A body that nobody reads is not a request, either.
    let body = "GET /page.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let len = body.len();
    for header in [
        format!("Content-Length: {len}"),
        format!("content-length: {len}\r\nContent-Length: {len}"),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        let mut stream = connect(site.server.address());
        let request = format!("GET /sub/ HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).expect("the server receives");
        let answer = Answer::parse(&read_to_end(&mut stream));
        assert_eq!((answer.status, answer.body.as_str()), (200, "<p>"), "{header}");
    }
    // A person with `nc` is served.
    assert_eq!(site.ask("GET /page.txt HTTP/1.0\n\n").body.as_bytes(), PAGE);
    site.assert_serves();
}

#[test]
fn a_request_without_an_end_gets_a_clear_answer_when_its_client_will_say_no_more() {
    let site = Site::new();
    for request in ["GET /page.txt HTTP/1.1\r\nHost: here\r\n", "GET /page.txt HTTP/1.0\n", "GET /page.txt", "\r\nG"] {
        assert_eq!(site.ask(request).status, 400, "{request:?}");
    }
    // Whoever has asked for nothing is not answered; the end of a line is nothing, also behind a request.
    for nothing in ["", "\n", "\r\n\r\n"] {
        assert_eq!(converse(site.server.address(), nothing.as_bytes()), b"", "{nothing:?}");
        let answers = converse(
            site.server.address(),
            format!("HEAD /page.txt HTTP/1.1\r\nHost: here\r\n\r\n{nothing}").as_bytes(),
        );
        assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 ").count(), 1, "{nothing:?}");
    }
}

#[test]
fn how_long_a_request_may_be_does_not_depend_on_how_it_arrives() {
    let site = Site::new();
    let request = |len: usize| {
        let start = "GET /page.txt HTTP/1.1\r\nHost: here\r\nConnection: close\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4))
    };
    assert_eq!(site.ask(&request(8 * 1024)).status, 200);
    for len in [8 * 1024 + 1, 9000] {
        // All at once, and behind another request, which moves it on.
        assert_eq!(site.ask(&request(len)).status, 431, "{len}");
        let both = format!("HEAD /page.txt HTTP/1.1\r\nHost: here\r\n\r\n{}", request(len));
        let answers = converse(site.server.address(), both.as_bytes());
        assert!(String::from_utf8_lossy(&answers).contains("HTTP/1.1 431 "), "{len}");
    }
}

#[test]
fn a_host_or_a_length_that_is_none_is_refused() {
    let site = Site::new();
    let status = |headers: &str| site.ask(&format!("GET /page.txt HTTP/1.1\r\n{headers}\r\n\r\n")).status;
    for host in ["a b/?#@", "a/b", "a@b", "a:b", "a:1:2", "[::1", "[a]", "::1", "\u{e9}", "\"a\""] {
        assert_eq!(status(&format!("Host: {host}")), 400, "{host}");
    }
    for host in ["", "a", "a-b.c:80", "a:", "127.0.0.1:80", "[::1]", "[::1]:80", "a%20b"] {
        assert_eq!(status(&format!("Host: {host}")), 200, "{host}");
    }
    // Whoever passed such a request on to this server may have understood another length.
    for length in ["abc", "-1", "+1", "", "1 1", "1,2", "0x1", "1,"] {
        assert_eq!(status(&format!("Host: a\r\nContent-Length: {length}")), 400, "{length}");
    }
    site.assert_serves();
}

#[test]
fn a_client_that_dribbles_is_let_go_in_time_and_others_are_served_meanwhile() {
    let site = Site::new();
    let begin = Instant::now();
    let mut stream = connect(site.server.address());
    stream.write_all(b"GET /page.txt HTTP/1.1\r\nHost: here\r\n").expect("the server receives");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit that is not zero can be set");
    // A byte every tenth of a second would go on for ever if each of them were progress.
    while stream.write_all(b"x").is_ok() && stream.peek(&mut [0]).is_err() {
        assert!(begin.elapsed() < LIMIT, "it is still listened to");
    }
    assert!(begin.elapsed() > Duration::from_secs(4), "let go after {:?}", begin.elapsed());
    stream.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero can be set");
    assert!(read_until(&mut stream, "\r\n").starts_with("HTTP/1.1 408 "));
    site.assert_serves();
}

#[test]
#[ignore = "needs curl"]
fn curl_gets_files_ranges_and_news() {
    let site = Site::new();
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(site.directory.path().join("root/big"), &big).expect("a file can be written");
    let copy = site.directory.file("copy");
    curl_text(["--fail", "--remote-time", "--output", &copy, &site.url("/big")]);
    assert!(fs::read(&copy).expect("curl has written it") == big);
    // The rest of a download that was interrupted:
    fs::File::options().write(true).open(&copy).and_then(|file| file.set_len(1_000_001)).expect("it can be cut");
    curl_text(["--fail", "--continue-at", "-", "--remote-time", "--output", &copy, &site.url("/big")]);
    assert!(fs::read(&copy).expect("curl has written it") == big);
    assert_eq!(curl_text(["--range", "0-3", &site.url("/page.txt")]), "0123");
    let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let get = |args: &[&str], path: &str| curl_text(code.iter().chain(args).copied().chain([site.url(path).as_str()]));
    assert_eq!(get(&["--time-cond", &copy], "/big"), "304");
    let tags = site.directory.file("tags");
    assert_eq!(get(&["--etag-save", &tags], "/big"), "200");
    assert_eq!(get(&["--etag-compare", &tags], "/big"), "304");
    assert_eq!(get(&["--head"], "/page.txt"), "200");
    assert_eq!(get(&["--path-as-is"], "/../outside"), "404");
    assert_eq!(get(&["--location"], "/sub"), "200");
    assert_eq!(get(&["--data", "x"], "/page.txt"), "405");
    let twice = curl(["--verbose", "--fail", &site.url("/page.txt"), &site.url("/page.txt")]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("Re-using existing connection"), "{twice:?}");
    assert!(site.server.peak_bytes() < 8 << 20, "{} bytes", site.server.peak_bytes());
}

#[test]
#[ignore = "needs wrk"]
fn wrk_sees_no_error() {
    let site = Site::new();
    let output = Command::new("wrk")
        .args(["-t", "1", "-c", "100", "-d", "3", "--timeout", "20", &site.url("/page.txt")])
        .output();
    let text = String::from_utf8(output.expect("wrk runs").stdout).expect("text");
    assert!(text.contains("Requests/sec"), "{text}");
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    site.assert_serves();
}
