//! Floors: the least work that moves the bytes of an echo or of a fan-out, once on epoll and once on a bare io_uring.

pub mod epoll;
pub mod uring;
pub mod wire;
