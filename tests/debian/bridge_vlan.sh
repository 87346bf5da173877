# masked
# In a network namespace of its own: numbers of interfaces that others have used show as the name of a bridge, or do not.
[ "$ALONE" ] || ALONE=1 exec unshare -n bash "$0"; ip link set lo up
ip link add br0 type bridge; ip link set br0 up; for i in 1 2; do ip netns add n$i; ip link add p$i type veth peer name e netns n$i; ip link set p$i master br0 up; ip -n n$i addr add 10.7.0.$i/24 dev e; ip -n n$i link set e up; done; sleep 1
ip netns exec n1 ping -n -c 2 -i 0.2 -W 3 10.7.0.2 | grep transmitted | sed 's/time.*//'; bridge link | awk '{print $2, $5, $6, $7, $8, $9}'; bridge fdb show br br0 dynamic | awk '{print $2, $3}' | sort | uniq -c; ip -d -o link show br0 | grep -o 'ageing_time [0-9]*\|stp_state [0-9]*'
ip link set p1 nomaster; bridge link | wc -l; ip -n n1 link add link e name e.5 type vlan id 5; ip -n n1 -d -o link show e.5 | grep -o 'vlan protocol 802.1Q id [0-9]*'; ip -n n2 link add m0 link e type macvlan mode bridge; ip -n n2 -d -o link show m0 | grep -o 'macvlan mode [a-z]*'; ip netns del n1; ip netns del n2; sleep 0.5; ip link del br0
