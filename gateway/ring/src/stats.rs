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

impl Stats {
    /// Adds what grew between two readings of another reactor's counters.
    pub(crate) fn add_growth(&mut self, from: &Stats, to: &Stats) {
        self.waits += to.waits - from.waits;
        self.enters += to.enters - from.enters;
        let (a, b, c) = (&mut self.connections, &from.connections, &to.connections);
        a.accepted += c.accepted - b.accepted;
        a.connected += c.connected - b.connected;
        a.adopted += c.adopted - b.adopted;
        a.detached += c.detached - b.detached;
        a.closed += c.closed - b.closed;
        let (a, b, c) = (&mut self.traffic, &from.traffic, &to.traffic);
        a.receives += c.receives - b.receives;
        a.received_bytes += c.received_bytes - b.received_bytes;
        a.sends += c.sends - b.sends;
        a.sent_bytes += c.sent_bytes - b.sent_bytes;
        let (a, b, c) = (&mut self.unusual, &from.unusual, &to.unusual);
        a.no_buffers += c.no_buffers - b.no_buffers;
        a.cq_overflows += c.cq_overflows - b.cq_overflows;
        a.short_sends += c.short_sends - b.short_sends;
        a.cancelled += c.cancelled - b.cancelled;
        a.stale += c.stale - b.stale;
        a.accept_errors += c.accept_errors - b.accept_errors;
        a.accept_aborted += c.accept_aborted - b.accept_aborted;
        a.submissions_full += c.submissions_full - b.submissions_full;
    }
}
