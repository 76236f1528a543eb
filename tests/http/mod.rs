//! A site that `examples/http` serves, and what it answers.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::examples::{Directory, Program, converse};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

pub const PAGE: &[u8] = b"0123456789 and so on\n";

/// What must never be served.
pub const SECRET: &str = "the secret";

/// A served directory with a page, a subdirectory, a hidden file, and ways out of it.
pub struct Site {
    pub directory: Directory,
    pub server: Program,
}

impl Site {
    #[track_caller]
    pub fn new() -> Site {
        let directory = Directory::new();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("sub/.git")).expect("a directory can be made");
        fs::write(directory.path().join("outside"), SECRET).expect("a file can be written");
        fs::create_dir(directory.path().join("root-too")).expect("a directory can be made");
        fs::write(directory.path().join("root-too/file"), SECRET).expect("a file can be written");
        fs::write(root.join("page.txt"), PAGE).expect("a file can be written");
        fs::write(root.join("empty"), "").expect("a file can be written");
        fs::write(root.join("a b"), "a space").expect("a file can be written");
        fs::write(root.join("sub/index.html"), "<p>").expect("a file can be written");
        fs::write(root.join("sub/.git/config"), SECRET).expect("a file can be written");
        symlink("../outside", root.join("link")).expect("a link can be made");
        symlink("..", root.join("up")).expect("a link can be made");
        symlink("../root-too", root.join("neighbour")).expect("a link can be made");
        symlink("page.txt", root.join("alias")).expect("a link can be made");
        symlink("circle", root.join("circle")).expect("a link can be made");
        let status = Command::new("mkfifo").arg(root.join("fifo")).status().expect("POSIX has mkfifo");
        assert!(status.success());
        let server = Program::example("http", &["127.0.0.1:0", root.to_str().expect("the path is text")]);
        Site { directory, server }
    }

    /// The answer to one request, which is the last on its connection.
    #[track_caller]
    pub fn ask(&self, request: &str) -> Answer {
        Answer::parse(&converse(self.server.address(), request.as_bytes()))
    }

    /// The answer to `GET` with these further header lines.
    #[track_caller]
    pub fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: here\r\n{headers}\r\n"))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    #[track_caller]
    pub fn assert_serves(&self) {
        assert_eq!(self.get("/page.txt", "").body, String::from_utf8_lossy(PAGE));
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        Answer { status: status.expect("a status line"), head: format!("{head}\r\n"), body: body.to_owned() }
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}
