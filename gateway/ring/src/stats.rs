//! Counters of one reactor. Plain numbers: the shard that owns the reactor reads and exports them.

/// What a reactor has done since it was made. All are counts of events unless the name says bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections accepted, connected or adopted, and ended.
    pub connections: ConnectionStats,
    /// What went over the sockets.
    pub traffic: TrafficStats,
    /// Outcomes that are normal but worth a look when they grow.
    pub unusual: UnusualStats,
    /// Returns from `wait`.
    pub waits: u64,
    /// System calls made to submit or wait (io_uring_enter, epoll_wait).
    pub enters: u64,
}

/// Connections that came and went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Accepted and announced.
    pub accepted: u64,
    /// Connects that succeeded.
    pub connected: u64,
    /// Descriptors adopted.
    pub adopted: u64,
    /// Descriptors handed out.
    pub detached: u64,
    /// Slots freed, whatever the reason.
    pub closed: u64,
}

/// Bytes and operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficStats {
    /// `Received` completions.
    pub receives: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Sends completed, in full or not.
    pub sends: u64,
    /// Bytes the kernel took.
    pub sent_bytes: u64,
}

/// Outcomes that a reactor absorbs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnusualStats {
    /// A receive found no free buffer (ENOBUFS) and queued for one.
    pub no_buffers: u64,
    /// The kernel's completion queue was full and it kept completions back.
    pub cq_overflows: u64,
    /// A send was taken only in part and was continued.
    pub short_sends: u64,
    /// Operations that ended because they were cancelled.
    pub cancelled: u64,
    /// Completions, or calls, that named a slot of an earlier generation; ignored.
    pub stale: u64,
    /// Accepts that failed for want of descriptors, slots or memory.
    pub accept_errors: u64,
    /// Peers that were gone before their accept was handled.
    pub accept_aborted: u64,
    /// The submission queue was full and was flushed early.
    pub submissions_full: u64,
}
