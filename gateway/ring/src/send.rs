//! One vectored send: which buffers, how much of them is gone. Owns the buffers until the send ends; makes no system
//! call. Finished sends are kept and reused, so that a send allocates nothing in steady state.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::config::{SEND_BUFS_MAX, SEND_BYTES_MAX};

/// Finished sends kept for reuse.
const SPARE_MAX: usize = 1024;

pub(crate) struct SendOp {
    bufs: Vec<Bytes>,
    /// Index of the first buffer with unsent bytes; that buffer is advanced past what was sent.
    first: usize,
    left: usize,
    sent: usize,
    /// The kernel's view of the unsent buffers: addresses only, written by [`SendOp::message`].
    iovecs: Vec<libc::iovec>,
    message: libc::msghdr,
}

impl Default for SendOp {
    fn default() -> SendOp {
        // SAFETY: all zeroes is a valid `msghdr`: null pointers with zero lengths.
        let message = unsafe { std::mem::zeroed() };
        SendOp { bufs: Vec::new(), first: 0, left: 0, sent: 0, iovecs: Vec::new(), message }
    }
}

impl SendOp {
    /// Takes buffers from the front of `queue`, up to the limits of one send.
    fn fill(&mut self, queue: &mut VecDeque<Bytes>) -> usize {
        while self.bufs.len() < SEND_BUFS_MAX && (self.bufs.is_empty() || self.left < SEND_BYTES_MAX) {
            let Some(buf) = queue.pop_front() else { break };
            if !buf.is_empty() {
                self.left += buf.len();
                self.bufs.push(buf);
            }
        }
        self.left
    }

    /// The buffers not sent yet.
    pub(crate) fn unsent(&self) -> &[Bytes] {
        self.bufs.get(self.first..).unwrap_or_default()
    }

    /// The unsent buffers as the kernel wants them; good until this send changes or moves.
    pub(crate) fn message(&mut self) -> &libc::msghdr {
        self.iovecs.clear();
        self.iovecs.extend(
            self.bufs[self.first..]
                .iter()
                .map(|buf| libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() }),
        );
        self.message.msg_iov = self.iovecs.as_mut_ptr();
        self.message.msg_iovlen = self.iovecs.len() as _;
        &self.message
    }

    /// Notes that the kernel took `bytes`; returns whether all is sent.
    pub(crate) fn advance(&mut self, bytes: usize) -> bool {
        let mut bytes = bytes.min(self.left);
        self.sent += bytes;
        self.left -= bytes;
        while let Some(buf) = self.bufs.get_mut(self.first).filter(|_| bytes > 0) {
            let step = bytes.min(buf.len());
            buf.advance(step);
            bytes -= step;
            if buf.is_empty() {
                self.first += 1;
            }
        }
        self.left == 0
    }

    /// Bytes the kernel took so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }
}

/// Sends not in use.
#[derive(Default)]
pub(crate) struct SendPool {
    #[allow(clippy::vec_box, reason = "the kernel holds addresses inside a send, so it must not move")]
    spare: Vec<Box<SendOp>>,
}

impl SendPool {
    /// A send of the front of `queue` and its bytes; `None` when there is nothing to send.
    pub(crate) fn take(&mut self, queue: &mut VecDeque<Bytes>) -> Option<(Box<SendOp>, usize)> {
        let mut op = self.spare.pop().unwrap_or_default();
        match op.fill(queue) {
            0 => {
                self.put(op);
                None
            }
            bytes => Some((op, bytes)),
        }
    }

    /// Takes back a send that ended; its buffers are dropped.
    pub(crate) fn put(&mut self, mut op: Box<SendOp>) {
        if self.spare.len() < SPARE_MAX {
            op.bufs.clear();
            op.iovecs.clear();
            (op.first, op.left, op.sent) = (0, 0, 0);
            self.spare.push(op);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn advancing_by_any_steps_leaves_the_rest() {
        for step in 1..=10 {
            let mut queue: VecDeque<Bytes> = ["abc", "", "d", "efghi"].map(Bytes::from).into();
            let (mut op, bytes) = SendPool::default().take(&mut queue).unwrap();
            assert_eq!(bytes, 9);
            let mut seen = Vec::new();
            loop {
                let rest: Vec<u8> = op.unsent().concat();
                let lengths: Vec<usize> = op.unsent().iter().map(Bytes::len).collect();
                assert_eq!(op.message().msg_iovlen, lengths.len());
                assert_eq!(op.iovecs.iter().map(|v| v.iov_len).collect::<Vec<_>>(), lengths);
                seen.extend_from_slice(&rest[..step.min(rest.len())]);
                if op.advance(step) {
                    break;
                }
            }
            assert_eq!((seen.as_slice(), op.sent()), (b"abcdefghi".as_slice(), 9));
        }
    }

    #[test]
    fn a_send_is_bounded_but_takes_one_buffer_at_least() {
        let big = Bytes::from(vec![0; SEND_BYTES_MAX * 2]);
        let mut queue: VecDeque<Bytes> = [big.clone(), big].into();
        let mut pool = SendPool::default();
        let (op, bytes) = pool.take(&mut queue).unwrap();
        assert_eq!((bytes, queue.len(), op.unsent().len()), (SEND_BYTES_MAX * 2, 1, 1));
        let mut queue: VecDeque<Bytes> = (0..SEND_BUFS_MAX + 5).map(|_| Bytes::from_static(b"x")).collect();
        assert_eq!(pool.take(&mut queue).unwrap().1, SEND_BUFS_MAX);
        assert_eq!(queue.len(), 5);
    }
}
