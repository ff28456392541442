//! The provided-buffer ring: receive buffers that the kernel picks from by itself. Owns the ring's memory and every
//! buffer that the kernel may write to; a buffer taken out belongs to its handler until it is put back.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::completion::RecvBuf;
use crate::config::RingConfig;

/// The one buffer group of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;
/// The kernel wants the ring on a page boundary.
const PAGE: usize = 4096;

/// Must outlive the ring it is registered with.
pub(super) struct ProvidedBuffers {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    /// Buffers the kernel may write to, by id; `None` while a handler has one.
    owned: Vec<Option<Box<[u8]>>>,
    tail: u16,
    free: u32,
}

impl ProvidedBuffers {
    /// Allocates the buffers and registers them with `ring`.
    pub(super) fn register(ring: &IoUring, config: &RingConfig) -> io::Result<ProvidedBuffers> {
        let count = config.buffers;
        let layout = Layout::from_size_align(count as usize * size_of::<BufRingEntry>(), PAGE)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the layout's size is not zero, as `RingConfig::check` refuses zero buffers.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<BufRingEntry>();
        let entries = NonNull::new(memory).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut buffers =
            ProvidedBuffers { entries, layout, owned: (0..count).map(|_| None).collect(), tail: 0, free: 0 };
        // SAFETY: the memory holds `count` entries, is page-aligned, and is freed only in our `drop`, which our owner
        // runs after the ring's.
        unsafe {
            let entries = entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(entries, count as u16, BUFFER_GROUP, 0)?;
        }
        for id in 0..count {
            buffers.put(RecvBuf { id: id as u16, ring: 0, data: vec![0; config.buffer_bytes].into_boxed_slice() });
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Gives a buffer to the kernel, once `publish` is called. One that is not of this ring is dropped.
    pub(super) fn put(&mut self, buf: RecvBuf) {
        let mask = self.owned.len() - 1;
        let Some(place @ None) = self.owned.get_mut(usize::from(buf.id)) else { return };
        let data = place.insert(buf.data);
        // SAFETY: the index is masked to the ring's size, a power of two; the kernel does not look at entries past
        // the published tail, and there are as many entries as buffers, so none it may still look at is overwritten.
        let entry = unsafe { &mut *self.entries.as_ptr().add(usize::from(self.tail) & mask) };
        entry.set_addr(data.as_mut_ptr() as u64);
        entry.set_len(data.len() as u32);
        entry.set_bid(buf.id);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    /// Lets the kernel see the buffers put back so far.
    pub(super) fn publish(&mut self) {
        // SAFETY: the pointer is the start of the registered ring, whose memory lives as long as `self`; the tail is
        // an aligned u16 that the kernel reads and only we write, so an atomic store is a valid access.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes the buffer that a completion named: the kernel is done with it.
    pub(super) fn take(&mut self, id: u16) -> Option<RecvBuf> {
        let data = self.owned.get_mut(usize::from(id))?.take()?;
        self.free -= 1;
        Some(RecvBuf { id, ring: 0, data })
    }

    /// Buffers the kernel has, those of completions not reaped yet included.
    pub(super) fn free(&self) -> u32 {
        self.free
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with this layout; the ring is gone, and the kernel pins the pages it still
        // needs by itself.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
