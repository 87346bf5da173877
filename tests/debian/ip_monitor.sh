# masked
stdbuf -oL ip monitor link nsid >m & p=$!; sleep 1; ip netns add a; ip netns set a 3; ip link add v0 type veth peer name v1 netns a; ip link set v0 up; ip link del v0; ip netns del a; sleep 1; kill $p; wait 2>/dev/null; sed 's/link-netnsid [0-9]*/link-netnsid N/; s/link\/ether.*/link\/ether/' m
stdbuf -oL ip monitor all-nsid link >n & p=$!; sleep 1; ip netns add b; ip netns set b 7; ip -n b link add d0 type dummy; ip -n b link del d0; ip netns del b; sleep 1; kill $p; wait 2>/dev/null; grep -o '^\[nsid 7\][^:]*: [^:]*:' n | sort | uniq -c
