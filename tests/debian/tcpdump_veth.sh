# masked
ip netns add a; ip link add v0 type veth peer name v1 netns a; ip addr add 10.6.0.1/24 dev v0; ip -n a addr add 10.6.0.2/24 dev v1; ip link set v0 up; ip -n a link set v1 up; sleep 1
timeout 8 tcpdump -n -i v0 -c 4 -l 'arp or icmp' >out 2>err & sleep 2; ping -n -c 1 -W 2 10.6.0.2 >/dev/null; wait; sed 's/^[0-9:.]* //; s/id [0-9]*/id N/; s/is-at [0-9a-f:]*/is-at/' out; grep -c captured err; ip netns del a
