//! Tests of the scheduler at work, on the simulated machine. Each runs with many seeds.

mod balance;
mod sleep;
mod sync;
