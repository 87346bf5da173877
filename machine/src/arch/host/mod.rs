//! The host backend: the machine as an ordinary process.
