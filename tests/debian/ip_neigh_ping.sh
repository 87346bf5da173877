# masked
ip netns add a; ip link add v0 type veth peer name v1 netns a; ip addr add 10.5.0.1/24 dev v0; ip -n a addr add 10.5.0.2/24 dev v1; ip link set v0 up; ip -n a link set v1 up; ip -n a link set lo up
ping -n -c 3 -i 0.2 -W 2 10.5.0.2 | grep -E 'bytes from|transmitted' | sed 's/time.*//'; ip neigh show dev v0 | sed 's/lladdr [0-9a-f:]*/lladdr/'; ping -c 1 -W 1 10.5.0.77 | grep -E 'Unreach|transmitted' | sed 's/time.*//'; ip neigh show 10.5.0.77 | awk '{print $NF}'
ip neigh add 10.5.0.9 lladdr 02:00:00:00:00:09 dev v0; ip neigh show 10.5.0.9; ip neigh del 10.5.0.9 dev v0; ip -n a route add default via 10.5.0.1; sleep 2; ping -6 -c 1 -W 3 -I v0 $(ip -n a -6 -o addr show v1 scope link | awk '{print $4}' | cut -d/ -f1) | grep -c 'bytes from'
traceroute -n -q 1 -w 1 -m 2 10.5.0.2 | tail -1 | awk '{print $1, $2}'; ip netns exec a ping -n -c 1 -s 4000 -W 2 10.5.0.1 | grep transmitted | sed 's/time.*//'; ip netns del a
