//! Reactors: io_uring, epoll and a simulated one behind one seam.
