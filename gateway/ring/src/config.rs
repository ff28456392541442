//! Limits of one reactor, with their defaults and the relations between them. Never read from a file here.

use crate::token::SLOTS_MAX;

/// Buffers of one vectored send; what does not fit stays in the caller's queue for the next one.
pub const SEND_BUFS_MAX: usize = 64;
/// Bytes after which a vectored send takes no further buffer. One buffer is always taken, whatever its size.
pub const SEND_BYTES_MAX: usize = 256 * 1024;
/// Most receive buffers a provided-buffer ring can hold (kernel limit).
pub const BUFFERS_MAX: u32 = 32_768;
/// Default of [`RingConfig::completions_per_wait`].
pub const COMPLETIONS_PER_WAIT: usize = 512;
/// Default of [`RingConfig::buffers`].
pub const BUFFERS: u32 = 1024;
/// Default of [`RingConfig::buffer_bytes`].
pub const BUFFER_BYTES: usize = 4096;

// A full array of received data must leave buffers for the kernel to fill meanwhile.
const _: () = assert!(COMPLETIONS_PER_WAIT * 2 <= BUFFERS as usize);
const _: () = assert!(BUFFERS.is_power_of_two() && BUFFERS <= BUFFERS_MAX);
const _: () = assert!(SEND_BUFS_MAX <= 1024, "IOV_MAX");

/// Limits of one reactor. Worst-case memory of its own: `buffers * buffer_bytes` for receiving, plus one
/// slot (64 bytes at most) per connection, plus what sends in flight hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingConfig {
    /// Accepted connections held at once. Beyond it accepting pauses until one is closed. The io_uring reactor also
    /// caps `connections_max + outgoing_max` to RLIMIT_NOFILE, the limit of one ring's file table.
    pub connections_max: u32,
    /// Connections made by `connect` and `adopt` held at once; these are beside `connections_max`.
    pub outgoing_max: u32,
    /// Receive buffers shared by all connections: a power of two, at most [`BUFFERS_MAX`].
    pub buffers: u32,
    /// Bytes of one receive buffer, and so of one `Completion::Received` at most.
    pub buffer_bytes: usize,
    /// Completions one `wait` returns at most.
    pub completions_per_wait: usize,
    /// Entries of the submission queue (io_uring only); the completion queue has four times as many.
    pub submissions: u32,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        RingConfig {
            connections_max: 16_384,
            outgoing_max: 256,
            buffers: BUFFERS,
            buffer_bytes: BUFFER_BYTES,
            completions_per_wait: COMPLETIONS_PER_WAIT,
            submissions: 2048,
        }
    }
}

impl RingConfig {
    /// What is wrong with these limits, in one line, or nothing.
    pub fn check(&self) -> Result<(), String> {
        let slots = u64::from(self.connections_max) + u64::from(self.outgoing_max);
        if slots == 0 || slots > u64::from(SLOTS_MAX) {
            return Err(format!("connections_max + outgoing_max is {slots}, must be 1 to {SLOTS_MAX}"));
        }
        if !self.buffers.is_power_of_two() || self.buffers > BUFFERS_MAX {
            return Err(format!("buffers is {}, must be a power of two up to {BUFFERS_MAX}", self.buffers));
        }
        if !(64..=1 << 20).contains(&self.buffer_bytes) {
            return Err(format!("buffer_bytes is {}, must be 64 to 1048576", self.buffer_bytes));
        }
        if self.completions_per_wait == 0 {
            return Err("completions_per_wait must be at least 1".to_owned());
        }
        if !(8..=8192).contains(&self.submissions) {
            return Err(format!("submissions is {}, must be 8 to 8192", self.submissions));
        }
        Ok(())
    }
}
