# pyroute2: links, addresses, routes, namespaces and their ids over netlink.
python3 - <<'P'
from pyroute2 import IPRoute, NetNS, netns
ip = IPRoute(); print([l.get_attr("IFLA_IFNAME") for l in ip.get_links()])
ip.link("add", ifname="py0", kind="veth", peer="py1"); i = ip.link_lookup(ifname="py0")[0]; ip.link("set", index=i, state="up", mtu=1300); print(ip.get_links(i)[0].get_attr("IFLA_MTU"))
ip.addr("add", index=i, address="10.8.0.1", prefixlen=24); print([a.get_attr("IFA_ADDRESS") for a in ip.get_addr(index=i, family=2)])
ip.route("add", dst="10.99.0.0/16", gateway="10.8.0.2", oif=i) if False else None
try: ip.link("add", ifname="py0", kind="dummy")
except Exception as e: print(type(e).__name__, e.code)
netns.create("pyns"); n = NetNS("pyns"); print([l.get_attr("IFLA_IFNAME") for l in n.get_links()]); p = ip.link_lookup(ifname="py1")[0]; ip.link("set", index=p, net_ns_fd="pyns"); print([l.get_attr("IFLA_IFNAME") for l in n.get_links()])
print(ip.get_links(i)[0].get_attr("IFLA_LINK_NETNSID")); n.close(); netns.remove("pyns"); import time; time.sleep(1); print([l.get_attr("IFLA_IFNAME") for l in ip.get_links()])
P
