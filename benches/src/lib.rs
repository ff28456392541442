//! Micro benches, floors and peers.
