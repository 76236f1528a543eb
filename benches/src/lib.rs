//! The benchmarks of fdtask: what an echo server costs on it, beside the same server on its peers.
//!
//! # Layout
//! - [`scenario`]: what a load does, by name; the table of them.
//! - [`sample`]: what one run of one server under one scenario came to, and the line that carries it between processes.
//! - [`load`]: the load client (`fdtask-load`), which verifies every reply.
//! - [`runner`]: builds the servers, runs the rounds, shows progress.
//! - [`report`]: medians, ratios, the Markdown table, the CSV, the plots.
//! - [`sys`]: all unsafe code: cores, limits, signals, stopping, CPU time, two socket options.
//!
//! The peers are in `servers/`, each of them one file.

pub mod load;
pub mod report;
pub mod runner;
pub mod sample;
pub mod scenario;
pub mod sys;
