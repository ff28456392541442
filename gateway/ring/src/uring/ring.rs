//! The two queues and the one system call. Owns the ring and submissions that found no room; knows no connection.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue};

use super::op::Op;
use crate::config::RingConfig;

/// `IORING_REGISTER_FILE_ALLOC_RANGE` of io_uring_register(2).
const REGISTER_FILE_ALLOC_RANGE: libc::c_uint = 25;
/// Completion queue entries per submission queue entry.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;
/// How long dropping a ring waits for the kernel to let go of it.
const CANCEL_MAX_S: u64 = 2;

/// `struct io_uring_file_index_range`.
#[repr(C)]
struct FileIndexRange {
    off: u32,
    len: u32,
    resv: u64,
}

/// One completion queue entry, copied out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cqe {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// How long `enter` may block.
#[derive(Debug, Clone, Copy)]
pub(super) enum Block {
    No,
    For(Duration),
    Forever,
}

pub(super) struct Ring {
    io: IoUring,
    backlog: VecDeque<squeue::Entry>,
    /// Early flushes for want of room in the submission queue.
    pub(super) full: u64,
    pub(super) enters: u64,
    /// Completions taken out so far.
    pub(super) reaped: u64,
}

impl Ring {
    pub(super) fn new(submissions: u32) -> io::Result<Ring> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(submissions * COMPLETIONS_PER_SUBMISSION)
            .build(submissions)?;
        Ok(Ring { io, backlog: VecDeque::new(), full: 0, enters: 0, reaped: 0 })
    }

    /// What this kernel lacks, if anything.
    pub(super) fn missing(&self) -> Result<Option<&'static str>, io::Error> {
        let params = self.io.params();
        if !(params.is_feature_nodrop() && params.is_feature_ext_arg() && params.is_feature_submit_stable()) {
            return Ok(Some("lossless completion queues"));
        }
        let mut probe = Probe::new();
        self.io.submitter().register_probe(&mut probe)?;
        let needed = [
            (opcode::AcceptMulti::CODE, "accept"),
            (opcode::RecvMulti::CODE, "recv"),
            (opcode::SendMsg::CODE, "sendmsg"),
            (opcode::Connect::CODE, "connect"),
            (opcode::Shutdown::CODE, "shutdown"),
            (opcode::Close::CODE, "close"),
            (opcode::AsyncCancel::CODE, "cancel"),
            (opcode::FixedFdInstall::CODE, "fixed-fd-install (Linux 6.8)"),
        ];
        Ok(needed.into_iter().find(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| name))
    }

    /// Makes the table of direct descriptors: the kernel chooses slots below `connections_max`, we choose the others.
    pub(super) fn register_files(&self, config: &RingConfig) -> io::Result<()> {
        self.io.submitter().register_files_sparse(config.connections_max + config.outgoing_max)?;
        let range = FileIndexRange { off: 0, len: config.connections_max, resv: 0 };
        // SAFETY: the descriptor is the ring's, and the pointer is to the structure this request reads, which
        // outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.io.as_raw_fd(),
                REGISTER_FILE_ALLOC_RANGE,
                &raw const range,
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Puts a descriptor into a slot of ours; the kernel then holds its own reference.
    pub(super) fn register_file(&self, slot: u32, fd: RawFd) -> io::Result<()> {
        self.io.submitter().register_files_update(slot, &[fd]).map(drop)
    }

    /// Has the kernel write to `eventfd` when something completes, or is there for `enter` to complete. The ring's own
    /// descriptor does not tell: deferred work wakes only who waits in `enter`.
    pub(super) fn notify(&self, eventfd: RawFd) -> io::Result<()> {
        self.io.submitter().register_eventfd(eventfd)
    }

    pub(super) fn io(&self) -> &IoUring {
        &self.io
    }

    /// Queues an operation for the next `enter`; flushes early when the queue is full. Order is kept.
    pub(super) fn push(&mut self, op: Op) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(op.0);
        } else if !self.try_push(&op.0) {
            self.full += 1;
            self.enters += 1;
            // What is refused now (completion queue full, no memory) is submitted by the next `enter`.
            let _ = self.io.submit();
            if !self.try_push(&op.0) {
                self.backlog.push_back(op.0);
            }
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: an `Op` promises that the memory it names is good until its last completion.
        unsafe { self.io.submission().push(entry) }.is_ok()
    }

    fn push_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Whether the kernel has seen everything pushed, so that memory needed only until then may go.
    pub(super) fn all_submitted(&mut self) -> bool {
        self.backlog.is_empty() && self.io.submission().is_empty()
    }

    /// Submits everything and lets completions arrive, blocking for the first one as told.
    pub(super) fn enter(&mut self, block: Block) -> io::Result<()> {
        self.push_backlog();
        let block = if self.backlog.is_empty() { block } else { Block::No };
        self.enters += 1;
        let submitter = self.io.submitter();
        let result = match block {
            Block::Forever => submitter.submit_and_wait(1),
            Block::For(limit) => {
                let limit = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
            Block::No => {
                let queued = self.io.submission().len() as u32;
                // SAFETY: GETEVENTS without an argument and without waiting: posts what is ready and returns.
                unsafe { self.io.submitter().enter::<libc::sigset_t>(queued, 0, EnterFlags::GETEVENTS.bits(), None) }
            }
        };
        match result.map_err(|e| (e.raw_os_error(), e)) {
            Ok(_) => Ok(()),
            // Time is up, a signal came, the completion queue is full, memory is short: reap, and come again.
            Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Whether the kernel keeps completions back because the queue was full.
    pub(super) fn overflown(&mut self) -> bool {
        self.io.submission().cq_overflow()
    }

    /// Completions that can be reaped without a system call.
    pub(super) fn ready(&mut self) -> usize {
        self.io.completion().len()
    }

    /// Copies up to `room` completions into `into`, oldest first, and frees their entries.
    pub(super) fn reap(&mut self, room: usize, into: &mut Vec<Cqe>) {
        let before = into.len();
        let completions = self.io.completion().take(room);
        into.extend(completions.map(|cqe| Cqe {
            user_data: cqe.user_data(),
            result: cqe.result(),
            flags: cqe.flags(),
        }));
        self.reaped += (into.len() - before) as u64;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel must not use buffers that are freed next, and closing a ring alone cancels only some time later.
        let limit = Timespec::new().sec(CANCEL_MAX_S);
        let _ = self.io.submitter().register_sync_cancel(Some(limit), CancelBuilder::any());
    }
}
