# masked
# ip monitor of all namespaces that have an id: what happens there is told with the id; who has none is not heard.
until_true() { for i in $(seq 150); do eval "$1" && return; sleep 0.1; done; echo "never: $1"; }
listens() { awk -v p=$1 '$3 == p && $4 != "00000000" { found = 1 } END { exit !found }' /proc/net/netlink; }
ip netns add b; ip netns set b 7; ip netns add hidden; for n in b hidden; do ip netns exec $n sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; done
stdbuf -oL ip monitor all all-nsid >seen & p=$!; until_true 'listens $p'
ip -n hidden link add h0 type dummy; ip -n b link add d0 type dummy; ip -n b addr add 10.0.0.1/24 dev d0; ip -n b link set d0 up; ip -n b route add 10.9.0.0/16 via 10.0.0.2
ip -n b neigh add 10.0.0.5 lladdr 02:00:00:00:00:05 dev d0; ip -n b rule add from 10.1.0.0/16 table 100; ip -n b rule del from 10.1.0.0/16 table 100; ip -n b route del 10.9.0.0/16; ip -n b addr del 10.0.0.1/24 dev d0; ip -n b link del d0
until_true 'grep -q "Deleted .*d0: " seen'; ip netns set hidden 8; until_true 'grep -q "nsid 8" seen'; ip -n hidden link del h0; until_true 'grep -q "Deleted .*h0: " seen'; kill $p; wait 2>/dev/null
sed 's/link\/ether.*/link\/ether/' seen; ip -all netns delete
