//! What the tests of draining share.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use crate::common::{LIMIT, Server, Signal};

/// A drain timeout that no test ever waits for: whoever ends because of it ends too late.
pub const PATIENT: [&str; 2] = ["--drain-timeout", "600"];

/// The signals that begin a drain.
pub const ENDING: [Signal; 2] = [Signal::TERM, Signal::INT];

/// Expects that the server exits 0, within the usual limit.
#[track_caller]
pub fn expect_clean_exit(mut server: Server) {
    let status = server.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0), "{:?}", server.stderr.all());
}
