# ip netns: all of them at once, attaching, watching, ids, what another calls them.
until_true() { for i in $(seq 150); do eval "$1" && return; sleep 0.1; done; echo "never: $1"; }
mkdir -p /run/netns; stdbuf -oL ip netns monitor >seen & m=$!; until_true 'grep -qs inotify /proc/$m/fdinfo/*'
ip netns add one; ip netns add two; unshare -n sleep 100 & p=$!; until_true '[ "$(readlink /proc/$p/ns/net)" != "$(readlink /proc/$$/ns/net)" ]'
ip netns attach three $p; ip netns pids three | grep -c "^$p$"; ip netns identify $p; ip -n three link set lo up; ip -all netns exec sh -c 'ip -br link | cut -c1-24'
ip -all netns exec sh -c 'exit 3'; echo $?; ip -all netns exec nothing 2>&1; ip netns exec one sh -c 'exit 5'; echo $?; ip netns exec nobody true 2>&1; echo $?
ip netns set one 10; ip netns set two 7; ip netns list-id; ip netns list-id nsid 7; ip netns list; ip netns set one auto 2>&1; ip netns set two x 2>&1 | head -1
ip -n one netns set two 3; ip -n one netns list-id; ip netns list-id target-nsid 10; ip netns list-id target-nsid 10 nsid 3; ip netns list-id target-nsid 99 2>&1
ip -j netns list | jq -c .; ip -j netns list-id | jq -c .; kill $p; wait $p 2>/dev/null; ip netns exec three true && echo still there; ip netns delete three; ip netns attach four 99999999 2>&1
ip -all netns delete; until_true '[ -z "$(ip netns list-id)" ]'; ip netns list; until_true '[ $(wc -l <seen) -ge 6 ]'; kill $m; wait $m 2>/dev/null; cat seen
