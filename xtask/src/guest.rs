//! Programs for the guest.
