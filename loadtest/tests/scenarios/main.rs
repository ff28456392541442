//! Whole runs against small servers in this process: a good one passes, each planted fault is reported as what it is.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod crosscheck;
mod distributed;
mod echo;
mod faults;
mod publish;
mod reopen;
mod result;
mod single;
mod support;
mod uneven;
