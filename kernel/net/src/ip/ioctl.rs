//! The ioctls of addresses and routes (netdevice(7), `devinet_ioctl`, SIOCADDRT): the old way, on any socket of AF_INET.
//!
//! Locks: [`Rtnl`] for what changes something.
