//! Tests of the way of a transfer, on a disk in memory and on one whose driver misbehaves as a script says.
