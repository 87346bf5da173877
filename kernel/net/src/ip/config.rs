//! The settings of each device and of a namespace (`/proc/sys/net/ipv4/conf`, `/proc/sys/net/ipv6/conf`), as numbers in the order in
//! which netlink tells them.
//!
//! Key type: [`Settings`]. A namespace has two of each family: `default`, which new devices copy, and `all`, which counts
//! together with the device's own in the way that each setting says. Locks: none, atomics.

use machine::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Settings of IPv4 (`IPV4_DEVCONF_*` less one).
pub mod v4 {
    #![allow(missing_docs)]
    pub const FORWARDING: usize = 0;
    pub const MC_FORWARDING: usize = 1;
    pub const PROXY_ARP: usize = 2;
    pub const ACCEPT_REDIRECTS: usize = 3;
    pub const SECURE_REDIRECTS: usize = 4;
    pub const SEND_REDIRECTS: usize = 5;
    pub const SHARED_MEDIA: usize = 6;
    pub const RP_FILTER: usize = 7;
    pub const ACCEPT_SOURCE_ROUTE: usize = 8;
    pub const BOOTP_RELAY: usize = 9;
    pub const LOG_MARTIANS: usize = 10;
    pub const TAG: usize = 11;
    pub const ARP_FILTER: usize = 12;
    pub const MEDIUM_ID: usize = 13;
    pub const DISABLE_XFRM: usize = 14;
    pub const DISABLE_POLICY: usize = 15;
    pub const FORCE_IGMP_VERSION: usize = 16;
    pub const ARP_ANNOUNCE: usize = 17;
    pub const ARP_IGNORE: usize = 18;
    pub const PROMOTE_SECONDARIES: usize = 19;
    pub const ARP_ACCEPT: usize = 20;
    pub const ARP_NOTIFY: usize = 21;
    pub const ACCEPT_LOCAL: usize = 22;
    pub const SRC_VALID_MARK: usize = 23;
    pub const PROXY_ARP_PVLAN: usize = 24;
    pub const ROUTE_LOCALNET: usize = 25;
    pub const IGMPV2_UNSOLICITED_REPORT_INTERVAL: usize = 26;
    pub const IGMPV3_UNSOLICITED_REPORT_INTERVAL: usize = 27;
    pub const IGNORE_ROUTES_WITH_LINKDOWN: usize = 28;
    pub const DROP_UNICAST_IN_L2_MULTICAST: usize = 29;
    pub const DROP_GRATUITOUS_ARP: usize = 30;
    pub const BC_FORWARDING: usize = 31;
    pub const ARP_EVICT_NOCARRIER: usize = 32;
    /// How many there are.
    pub const COUNT: usize = 33;
    /// Their names in `/proc/sys`.
    pub const NAMES: [&str; COUNT] = [
        "forwarding",
        "mc_forwarding",
        "proxy_arp",
        "accept_redirects",
        "secure_redirects",
        "send_redirects",
        "shared_media",
        "rp_filter",
        "accept_source_route",
        "bootp_relay",
        "log_martians",
        "tag",
        "arp_filter",
        "medium_id",
        "disable_xfrm",
        "disable_policy",
        "force_igmp_version",
        "arp_announce",
        "arp_ignore",
        "promote_secondaries",
        "arp_accept",
        "arp_notify",
        "accept_local",
        "src_valid_mark",
        "proxy_arp_pvlan",
        "route_localnet",
        "igmpv2_unsolicited_report_interval",
        "igmpv3_unsolicited_report_interval",
        "ignore_routes_with_linkdown",
        "drop_unicast_in_l2_multicast",
        "drop_gratuitous_arp",
        "bc_forwarding",
        "arp_evict_nocarrier",
    ];
    /// What they are at first.
    pub const DEFAULTS: &[(usize, i32)] = &[
        (ACCEPT_REDIRECTS, 1),
        (SECURE_REDIRECTS, 1),
        (SEND_REDIRECTS, 1),
        (SHARED_MEDIA, 1),
        (ACCEPT_SOURCE_ROUTE, 1),
        (IGMPV2_UNSOLICITED_REPORT_INTERVAL, 10_000),
        (IGMPV3_UNSOLICITED_REPORT_INTERVAL, 1_000),
        (ARP_EVICT_NOCARRIER, 1),
    ];
}

/// Settings of IPv6 (`DEVCONF_*`).
pub mod v6 {
    #![allow(missing_docs)]
    pub const FORWARDING: usize = 0;
    pub const HOP_LIMIT: usize = 1;
    pub const MTU: usize = 2;
    pub const ACCEPT_RA: usize = 3;
    pub const ACCEPT_REDIRECTS: usize = 4;
    pub const AUTOCONF: usize = 5;
    pub const DAD_TRANSMITS: usize = 6;
    pub const ROUTER_SOLICITATIONS: usize = 7;
    pub const ROUTER_SOLICITATION_INTERVAL: usize = 8;
    pub const ROUTER_SOLICITATION_DELAY: usize = 9;
    pub const USE_TEMPADDR: usize = 10;
    pub const TEMP_VALID_LFT: usize = 11;
    pub const TEMP_PREFERED_LFT: usize = 12;
    pub const REGEN_MAX_RETRY: usize = 13;
    pub const MAX_DESYNC_FACTOR: usize = 14;
    pub const MAX_ADDRESSES: usize = 15;
    pub const FORCE_MLD_VERSION: usize = 16;
    pub const ACCEPT_RA_DEFRTR: usize = 17;
    pub const ACCEPT_RA_PINFO: usize = 18;
    pub const ACCEPT_RA_RTR_PREF: usize = 19;
    pub const ROUTER_PROBE_INTERVAL: usize = 20;
    pub const ACCEPT_RA_RT_INFO_MAX_PLEN: usize = 21;
    pub const PROXY_NDP: usize = 22;
    pub const OPTIMISTIC_DAD: usize = 23;
    pub const ACCEPT_SOURCE_ROUTE: usize = 24;
    pub const MC_FORWARDING: usize = 25;
    pub const DISABLE_IPV6: usize = 26;
    pub const ACCEPT_DAD: usize = 27;
    pub const FORCE_TLLAO: usize = 28;
    pub const NDISC_NOTIFY: usize = 29;
    pub const MLDV1_UNSOLICITED_REPORT_INTERVAL: usize = 30;
    pub const MLDV2_UNSOLICITED_REPORT_INTERVAL: usize = 31;
    pub const SUPPRESS_FRAG_NDISC: usize = 32;
    pub const ACCEPT_RA_FROM_LOCAL: usize = 33;
    pub const USE_OPTIMISTIC: usize = 34;
    pub const ACCEPT_RA_MTU: usize = 35;
    pub const STABLE_SECRET: usize = 36;
    pub const USE_OIF_ADDRS_ONLY: usize = 37;
    pub const ACCEPT_RA_MIN_HOP_LIMIT: usize = 38;
    pub const IGNORE_ROUTES_WITH_LINKDOWN: usize = 39;
    pub const DROP_UNICAST_IN_L2_MULTICAST: usize = 40;
    pub const DROP_UNSOLICITED_NA: usize = 41;
    pub const KEEP_ADDR_ON_DOWN: usize = 42;
    pub const ROUTER_SOLICITATION_MAX_INTERVAL: usize = 43;
    pub const SEG6_ENABLED: usize = 44;
    pub const SEG6_REQUIRE_HMAC: usize = 45;
    pub const ENHANCED_DAD: usize = 46;
    pub const ADDR_GEN_MODE: usize = 47;
    pub const DISABLE_POLICY: usize = 48;
    pub const ACCEPT_RA_RT_INFO_MIN_PLEN: usize = 49;
    pub const NDISC_TCLASS: usize = 50;
    pub const RPL_SEG_ENABLED: usize = 51;
    pub const RA_DEFRTR_METRIC: usize = 52;
    pub const IOAM6_ENABLED: usize = 53;
    pub const IOAM6_ID: usize = 54;
    pub const IOAM6_ID_WIDE: usize = 55;
    pub const NDISC_EVICT_NOCARRIER: usize = 56;
    pub const ACCEPT_UNTRACKED_NA: usize = 57;
    pub const ACCEPT_RA_MIN_LFT: usize = 58;
    pub const FORCE_FORWARDING: usize = 59;
    /// How many there are.
    pub const COUNT: usize = 60;
    /// Their names in `/proc/sys`.
    pub const NAMES: [&str; COUNT] = [
        "forwarding",
        "hop_limit",
        "mtu",
        "accept_ra",
        "accept_redirects",
        "autoconf",
        "dad_transmits",
        "router_solicitations",
        "router_solicitation_interval",
        "router_solicitation_delay",
        "use_tempaddr",
        "temp_valid_lft",
        "temp_prefered_lft",
        "regen_max_retry",
        "max_desync_factor",
        "max_addresses",
        "force_mld_version",
        "accept_ra_defrtr",
        "accept_ra_pinfo",
        "accept_ra_rtr_pref",
        "router_probe_interval",
        "accept_ra_rt_info_max_plen",
        "proxy_ndp",
        "optimistic_dad",
        "accept_source_route",
        "mc_forwarding",
        "disable_ipv6",
        "accept_dad",
        "force_tllao",
        "ndisc_notify",
        "mldv1_unsolicited_report_interval",
        "mldv2_unsolicited_report_interval",
        "suppress_frag_ndisc",
        "accept_ra_from_local",
        "use_optimistic",
        "accept_ra_mtu",
        "stable_secret",
        "use_oif_addrs_only",
        "accept_ra_min_hop_limit",
        "ignore_routes_with_linkdown",
        "drop_unicast_in_l2_multicast",
        "drop_unsolicited_na",
        "keep_addr_on_down",
        "router_solicitation_max_interval",
        "seg6_enabled",
        "seg6_require_hmac",
        "enhanced_dad",
        "addr_gen_mode",
        "disable_policy",
        "accept_ra_rt_info_min_plen",
        "ndisc_tclass",
        "rpl_seg_enabled",
        "ra_defrtr_metric",
        "ioam6_enabled",
        "ioam6_id",
        "ioam6_id_wide",
        "ndisc_evict_nocarrier",
        "accept_untracked_na",
        "accept_ra_min_lft",
        "force_forwarding",
    ];
    /// What they are at first.
    pub const DEFAULTS: &[(usize, i32)] = &[
        (HOP_LIMIT, 64),
        (MTU, 1_280),
        (ACCEPT_RA, 1),
        (ACCEPT_REDIRECTS, 1),
        (AUTOCONF, 1),
        (DAD_TRANSMITS, 1),
        (ROUTER_SOLICITATIONS, -1),
        (ROUTER_SOLICITATION_INTERVAL, 4_000),
        (ROUTER_SOLICITATION_DELAY, 1_000),
        (TEMP_VALID_LFT, 172_800),
        (TEMP_PREFERED_LFT, 86_400),
        (REGEN_MAX_RETRY, 3),
        (MAX_DESYNC_FACTOR, 600),
        (MAX_ADDRESSES, 16),
        (ACCEPT_RA_DEFRTR, 1),
        (ACCEPT_RA_PINFO, 1),
        (ACCEPT_RA_RTR_PREF, 1),
        (ROUTER_PROBE_INTERVAL, 60_000),
        (ACCEPT_DAD, 1),
        (MLDV1_UNSOLICITED_REPORT_INTERVAL, 10_000),
        (MLDV2_UNSOLICITED_REPORT_INTERVAL, 1_000),
        (SUPPRESS_FRAG_NDISC, 1),
        (ACCEPT_RA_MTU, 1),
        (ACCEPT_RA_MIN_HOP_LIMIT, 1),
        (ROUTER_SOLICITATION_MAX_INTERVAL, 3_600_000),
        (ENHANCED_DAD, 1),
        (RA_DEFRTR_METRIC, 1_024),
        (IOAM6_ID, 65_535),
        (IOAM6_ID_WIDE, -1),
        (NDISC_EVICT_NOCARRIER, 1),
    ];
}

/// The settings of one place.
pub struct Settings<const N: usize> {
    values: [AtomicI32; N],
    /// Which were set by somebody: a change of `default` does not reach them.
    touched: AtomicU64,
}

/// Those of IPv4.
pub type Settings4 = Settings<{ v4::COUNT }>;
/// Those of IPv6.
pub type Settings6 = Settings<{ v6::COUNT }>;

impl<const N: usize> Settings<N> {
    /// All zero but for some.
    pub(crate) fn new(defaults: &[(usize, i32)]) -> Settings<N> {
        let settings = Settings { values: [const { AtomicI32::new(0) }; N], touched: AtomicU64::new(0) };
        defaults.iter().for_each(|(which, value)| settings.put(*which, *value));
        settings
    }

    /// A copy that nobody touched.
    pub(crate) fn copy(&self) -> Settings<N> {
        let copy = Settings::new(&[]);
        (0..N).for_each(|which| copy.put(which, self.get(which)));
        copy
    }

    /// One of them; 0 for one there is not.
    pub fn get(&self, which: usize) -> i32 {
        self.values.get(which).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    /// Whether one is on.
    pub fn is_on(&self, which: usize) -> bool {
        self.get(which) != 0
    }

    /// Sets one without saying that somebody did.
    pub(crate) fn put(&self, which: usize, value: i32) {
        if let Some(place) = self.values.get(which) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Sets one because somebody wants it.
    pub(crate) fn set(&self, which: usize, value: i32) {
        self.touched.fetch_or(1 << which, Ordering::Relaxed);
        self.put(which, value);
    }

    /// What `default` became, for who did not choose.
    pub(crate) fn follow(&self, which: usize, value: i32) {
        if self.touched.load(Ordering::Relaxed) & 1 << which == 0 {
            self.put(which, value);
        }
    }

    /// Says that somebody chose all.
    pub(crate) fn touch_all(&self) {
        self.touched.store(u64::MAX, Ordering::Relaxed);
    }

    /// All, in order.
    pub(crate) fn all(&self) -> [i32; N] {
        core::array::from_fn(|which| self.get(which))
    }
}
