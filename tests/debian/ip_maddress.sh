# ip maddress: groups of the link, of IPv4, of IPv6; adding and taking away by hand.
# In a network namespace of its own: what others leave is not seen.
[ "$ALONE" ] || ALONE=1 exec unshare -n bash "$0"; ip link set lo up
ip maddress show dev lo | sort; ip link add d0 address 02:00:00:00:00:01 type dummy; ip maddress show dev d0 | sort; ip link set d0 up; ip addr add 10.0.0.1/24 dev d0
ip maddress show dev d0 | sort; ip -4 maddress show dev d0 | sort; ip -6 maddress show dev d0 | sort; ip maddress add 01:00:5e:00:00:77 dev d0; ip maddress add 33:33:00:00:00:99 dev d0; ip maddress show dev d0 | grep -E '5e:00:00:77|00:99'
ip maddress add 01:00:5e:00:00:77 dev d0 2>&1; ip maddress del 01:00:5e:00:00:77 dev d0; ip maddress del 01:00:5e:00:00:77 dev d0 2>&1; ip maddress show dev d0 | grep -c 5e:00:00:77; ip maddress add 02:00:00:00:00:05 dev d0 2>&1; ip maddress add 01:00:5e:00:00:78 dev nothing 2>&1
ip -j maddress show dev d0 | jq -c '.[].maddr[] | select(.family == "inet")'; ip link set d0 down; ip -o -4 maddress show dev d0; ip link del d0
