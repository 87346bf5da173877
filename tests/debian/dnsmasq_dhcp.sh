# masked
ip netns add c; ip link add s0 type veth peer name c0 netns c; ip addr add 10.10.0.1/24 dev s0; ip link set s0 up; ip link set lo up; ip -n c link set c0 up; ip -n c link set lo up; sleep 1
dnsmasq --no-daemon --port=0 --interface=s0 --bind-interfaces --dhcp-range=10.10.0.50,10.10.0.60,1h --dhcp-leasefile=$PWD/leases --user=root --no-resolv >log 2>&1 & p=$!; sleep 1
ip netns exec c timeout 20 dhclient -1 -v -lf $PWD/l -pf $PWD/pid -sf /bin/true c0 2>&1 | grep -E '^(DHCPOFFER|DHCPACK|bound)' | sed 's/-- .*//'; wc -l <leases; kill $p; kill $(cat pid) 2>/dev/null; wait 2>/dev/null; grep -o 'DHCP[A-Z]*(s0)' log | awk '!seen[$0]++'; ip netns del c
