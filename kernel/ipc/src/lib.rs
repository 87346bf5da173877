//! Inter-process communication: pipes, futexes, epoll and the descriptor-based events.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
