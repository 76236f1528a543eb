//! `examples/http`: nothing outside is served, and nobody waits, although names in the directory change all the time.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/examples.rs"]
mod examples;
mod http;

use examples::{connect, read_until};
use http::{PAGE, SECRET, Site};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::panic::{catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// How many requests are sent at once, and how often.
const REQUESTS: usize = 20;
const ROUNDS: usize = 1000;

/// Asks for a path again and again while two names in the directory are given to each other's files again and again.
#[track_caller]
fn ask_while_these_are_swapped(site: &Site, names: [&str; 2], path: &str) {
    let [one, other]: [PathBuf; 2] = names.map(|name| site.directory.path().join("root").join(name));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("Linux has it");
            }
        });
        // A test that fails must not wait for the thread for ever.
        let asking = catch_unwind(|| ask(site, path));
        is_over.store(true, Ordering::Relaxed);
        asking.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

fn ask(site: &Site, path: &str) {
    let mut stream = BufReader::new(connect(site.server.address()));
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").repeat(REQUESTS);
    for _ in 0..ROUNDS {
        stream.get_mut().write_all(request.as_bytes()).expect("the server receives");
        for _ in 0..REQUESTS {
            let head = read_until(&mut stream, "\r\n\r\n");
            let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut body = vec![0; len.and_then(|len| len.parse().ok()).expect("a length")];
            stream.read_exact(&mut body).expect("a body");
            let body = String::from_utf8_lossy(&body);
            assert!(!body.contains(SECRET), "{head}{body}");
            assert!(!head.starts_with("HTTP/1.1 200 ") || body.as_bytes() == PAGE, "{head}{body}");
        }
    }
}

#[test]
fn a_name_that_becomes_a_link_is_not_followed_out_of_the_directory() {
    let site = Site::new();
    ask_while_these_are_swapped(&site, ["page.txt", "link"], "/page.txt");
}

#[test]
fn a_directory_that_becomes_a_link_is_not_followed_out_of_the_directory() {
    let site = Site::new();
    let root = site.directory.path().join("root");
    fs::write(root.join("sub/file"), PAGE).expect("a file can be written");
    symlink("../root-too", root.join("way-out")).expect("a link can be made");
    ask_while_these_are_swapped(&site, ["sub", "way-out"], "/sub/file");
}

#[test]
fn a_name_that_becomes_a_pipe_keeps_nobody_waiting() {
    let site = Site::new();
    ask_while_these_are_swapped(&site, ["page.txt", "fifo"], "/page.txt");
}
