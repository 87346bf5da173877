# traceroute over two routers, IPv4 and IPv6, by UDP and by ICMP; to nobody, and where no route leads.
chain() { ip netns add $1; ip -n $1 link set lo up; ip netns exec $1 sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0; }
wire() { ip link add w netns $1 type veth peer name w netns $2; ip -n $1 link set w name $4; ip -n $2 link set w name $5; ip -n $1 addr add 10.$3.0.1/24 dev $4; ip -n $2 addr add 10.$3.0.2/24 dev $5; ip -n $1 addr add fd00:$3::1/64 dev $4 nodad; ip -n $2 addr add fd00:$3::2/64 dev $5 nodad; ip -n $1 link set $4 up; ip -n $2 link set $5 up; }
for n in a r s b; do chain $n; done; wire a r 1 right left; wire r s 2 right left; wire s b 3 right left
ip -n a route add default via 10.1.0.2; ip -n a route add default via fd00:1::2; ip -n b route add default via 10.3.0.1; ip -n b route add default via fd00:3::1
ip -n r route add 10.3.0.0/24 via 10.2.0.2; ip -n r route add fd00:3::/64 via fd00:2::2; ip -n s route add 10.1.0.0/24 via 10.2.0.1; ip -n s route add fd00:1::/64 via fd00:2::1; sleep 2
hops() { tail -n +2 | sed 's/ *[0-9.]* ms//g; s/ *$//'; }
ip netns exec a traceroute -n -q 2 -w 3 10.3.0.2 | hops; ip netns exec a traceroute -n -q 1 -w 3 -I 10.3.0.2 | hops; ip netns exec a traceroute -6 -n -q 2 -w 3 fd00:3::2 | hops; ip netns exec a traceroute -6 -n -q 1 -w 3 -I fd00:3::2 | hops
ip netns exec a traceroute -n -q 1 -w 3 -m 4 10.9.0.1 | hops; ip netns exec a traceroute -6 -n -q 1 -w 3 -m 4 fd00:9::1 | hops; ip netns exec a traceroute -n -q 1 -w 3 -f 2 -m 2 10.3.0.2 | hops; ip netns exec a traceroute -n -q 1 -w 3 -F 10.3.0.2 1400 | hops; ip -all netns delete
