# ip netns, whole.
ip netns add a; ip netns add b; ip netns list | sort; ip netns set a 5; ip netns list-id; ip netns set b auto; ip netns list-id | sort; ip netns list-id nsid 5; ip netns list | sort
ip netns set a 6 2>&1; ip netns set b 5 2>&1; ip netns add a 2>&1; ip netns exec a ip -o link | cut -c1-40; ip -all netns exec true; ip -n a link set lo up; ip -n a -o addr | tr -s ' ' | cut -d' ' -f2-4
ip netns exec a ip netns list-id target-nsid 0 2>&1; ip netns identify $$; ip netns exec b bash -c 'ip netns identify $$'; ip netns pids b | wc -l; ip netns exec a sleep 50 & sleep 0.5; ip netns pids a | wc -l; kill $!; wait 2>/dev/null
(unshare -n sleep 20 & echo $! >pid; wait) & sleep 0.5; ip netns attach c $(cat pid); ip netns list | grep -c c; kill $(cat pid); ip netns exec c ip -o link | wc -l; ip netns delete nothing 2>&1; ip -all netns delete; ip netns list; for i in $(seq 100); do [ -z "$(ip netns list-id)" ] && break; sleep 0.1; done; ip netns list-id
