//! How often others are told of errors: in all, and each of them (`icmp_global_allow`, `inet_peer_xrlim_allow`).
//!
//! Key types: [`Bucket`] (of a namespace), [`Peers`] (what is remembered of destinations: at most `MOST`; who comes when it is full takes
//! the place of one chosen at random). Any context. Locks: a leaf spinlock in each.

use alloc::boxed::Box;
use core::net::IpAddr;
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::try_box;
use machine::sync::SpinLock;

use super::address::key_of;

const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Destinations that are remembered.
const MOST: usize = 4096;
/// So many messages may go to a destination at once that was not told of anything for long.
const AT_ONCE: u64 = 6;
/// What is saved of one that is new.
const SAVED_AT_FIRST_NS: u64 = 60 * SECOND_NS;
/// After so many redirects that were ignored nobody is told for a while (`redirect_number`).
const REDIRECTS_MOST: u32 = 9;
/// The least time between two redirects, doubled with each (`redirect_load`).
const REDIRECT_NS: u64 = 20 * MILLISECOND_NS;
/// After this time without packets that should have gone elsewhere it begins again (`redirect_silence`).
const SILENCE_NS: u64 = REDIRECT_NS << (REDIRECTS_MOST + 1);

/// How many messages a namespace may still send: so many come in a second, so many are kept.
pub(crate) struct Bucket(SpinLock<(u64, u64)>);

impl Bucket {
    pub(crate) const fn new() -> Bucket {
        Bucket(SpinLock::new((0, 0)))
    }

    /// Takes one out, if there is one.
    pub(crate) fn take(&self, per_second: u64, at_once: u64) -> bool {
        let now = machine::time::now_ns();
        let mut bucket = self.0.lock();
        let (left, filled_ns) = *bucket;
        let since = if filled_ns == 0 { SECOND_NS } else { now.saturating_sub(filled_ns).min(SECOND_NS) };
        let new = since.saturating_mul(per_second) / SECOND_NS;
        let left = left.saturating_add(new).min(at_once);
        let filled_ns = if new > 0 || filled_ns == 0 { now } else { filled_ns };
        *bucket = (left.saturating_sub(1), filled_ns);
        left > 0
    }
}

/// What is remembered of a destination.
#[derive(Clone, Copy)]
struct Peer {
    key: u128,
    /// Time that was not used up by messages.
    saved_ns: u64,
    last_ns: u64,
    redirects: u32,
    redirected_ns: u64,
}

impl Item for Peer {
    type Key = u128;
    type Summary = ();
    fn key(&self) -> u128 {
        self.key
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// See the module.
#[derive(Default)]
pub(crate) struct Peers(SpinLock<Tree<Peer>>);

impl Peers {
    /// Forgets all: the namespace ends.
    pub(crate) fn clear(&self) {
        let all = core::mem::take(&mut *self.0.lock());
        drop(all);
    }

    /// Whether a destination may be told something now, of which it is told one in `interval_ms` in the long run.
    pub(crate) fn allow(&self, to: IpAddr, interval_ms: u64) -> bool {
        if interval_ms == 0 {
            return true;
        }
        let interval = interval_ms.saturating_mul(MILLISECOND_NS);
        self.with(to, |peer, now| {
            let saved = peer.saved_ns.saturating_add(now.saturating_sub(peer.last_ns));
            let saved = saved.min(interval.saturating_mul(AT_ONCE));
            let may = saved >= interval;
            peer.saved_ns = if may { saved - interval } else { saved };
            peer.last_ns = now;
            may
        })
    }

    /// Whether the sender of a packet may be told now that another router is better: less and less often while it does not listen.
    pub(crate) fn allow_redirect(&self, to: IpAddr) -> bool {
        self.with(to, |peer, now| {
            if now > peer.redirected_ns.saturating_add(SILENCE_NS) {
                (peer.saved_ns, peer.redirects) = (0, 0);
            }
            if peer.redirects >= REDIRECTS_MOST {
                peer.redirected_ns = now;
                return false;
            }
            let wait = REDIRECT_NS << peer.redirects;
            let may = peer.redirects == 0 || now > peer.redirected_ns.saturating_add(wait);
            if may {
                peer.redirected_ns = now;
                peer.redirects += 1;
            }
            may
        })
    }

    /// Asks what is remembered of a destination; without memory nobody is told anything.
    fn with(&self, to: IpAddr, ask: impl FnOnce(&mut Peer, u64) -> bool) -> bool {
        let key = match to {
            IpAddr::V4(address) => key_of(address.to_ipv6_mapped().into()),
            IpAddr::V6(_) => key_of(to),
        };
        let now = machine::time::now_ns();
        let mut peers = self.0.lock();
        let mut displaced = None;
        if peers.get(&key).is_none() {
            drop(peers);
            let saved_ns = SAVED_AT_FIRST_NS;
            let fresh = Peer { key, saved_ns, last_ns: now, redirects: 0, redirected_ns: 0 };
            let Ok(fresh) = try_box(Node::new(fresh)) else { return false };
            peers = self.0.lock();
            if peers.get(&key).is_none() {
                displaced = (peers.len() >= MOST).then(|| displace(&mut peers)).flatten();
                peers.insert(fresh);
            }
        }
        let may = peers.get_mut(&key).is_some_and(|peer| ask(peer, now));
        drop(peers);
        drop(displaced);
        may
    }
}

/// Takes one out that chance chooses.
fn displace(peers: &mut Tree<Peer>) -> Option<Box<Node<Peer>>> {
    let from = u128::from(machine::random::next_u64()) << 64 | u128::from(machine::random::next_u64());
    let key = peers.first_from(&from).or_else(|| peers.first())?.key;
    peers.remove(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_told_six_times_then_in_intervals() {
        machine::host::run(1, 1, || {
            let peers = Peers::default();
            let to = "192.0.2.1".parse().unwrap();
            let told = (0..20).filter(|_| peers.allow(to, 10_000)).count() as u64;
            assert_eq!(told, AT_ONCE);
            assert!(peers.allow("192.0.2.2".parse().unwrap(), 60_000), "another is told once");
            assert!(peers.allow(to, 0), "no limit");
        });
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        machine::host::run(1, 1, || {
            let peers = Peers::default();
            for number in 0..2 * MOST as u32 {
                peers.allow(core::net::Ipv4Addr::from_bits(number).into(), 1000);
            }
            assert_eq!(peers.0.lock().len(), MOST);
        });
    }

    #[test]
    fn redirects_become_rare() {
        machine::host::run(1, 1, || {
            let peers = Peers::default();
            let to = "192.0.2.1".parse().unwrap();
            assert!(peers.allow_redirect(to));
            assert!(!peers.allow_redirect(to));
        });
    }
}
