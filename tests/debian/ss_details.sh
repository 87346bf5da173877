# masked
# ss with memory, owners and details: UDP, UNIX, netlink, packet sockets.
# What cgroup a socket is of is left out.
# In a network namespace of its own: what others leave is not seen.
[ "$ALONE" ] || ALONE=1 exec unshare -n bash "$0"; ip link set lo up
until_true() { for i in $(seq 150); do eval "$1" && return; sleep 0.1; done; echo "never: $1"; }
show() { grep -v '^Failed to find cgroup2' | sed 's/ *sk:[0-9a-f]*//; s/ *cgroup:[^ ]*//; s/ino:[0-9]*/ino:N/; s/  */ /g; s/ $//'; }; ss() { command ss "$@" 2>/dev/null; }
socat -u UDP4-RECV:7100,reuseaddr /dev/null & a=$!; socat -u UDP6-RECV:7101,ipv6only=1 /dev/null & b=$!; setpriv --reuid=1000 --clear-groups socat -u UDP4-RECV:7102 /dev/null & c=$!; until_true '[ $(ss -Hunl | grep -c :710) = 3 ]'
ss -H -u -n -l -e -m -p 'sport = :7100' | show; ss -H -u -n -l -e -m -p 'sport = :7101' | show; ss -H -u -n -l -e -m -p 'sport = :7102' | show; ss -H -u -n -a 'sport = :7100 or sport = :7102' | wc -l; ss -H -6 -u -n -l 'sport = :7101' | wc -l; kill $a $b $c; wait 2>/dev/null
python3 -c 'import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 7103)); s.connect(("127.0.0.1", 7104)); time.sleep(100)' & a=$!; until_true '[ $(ss -Hun state established | grep -c :7103) = 1 ]'; ss -H -u -n -e -m -p state established 'dport = :7104' | show; kill $a; wait 2>/dev/null
socat UNIX-LISTEN:sock,fork SYSTEM:'sleep 100' & a=$!; until_true '[ -S sock ]'; socat -u UNIX-CONNECT:sock /dev/null & b=$!; until_true '[ $(ss -Hxp state established | grep -c "pid=$b,") = 3 ]'; ss -H -x -l -e -m -p src sock | show; ss -H -x -p state established | grep "pid=$b," | show | sort; kill $a $b; wait 2>/dev/null
python3 -c 'import socket, time; s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); s.bind((4242, 0)); time.sleep(100)' & a=$!; until_true '[ $(ss -H -f netlink | grep -c rtnl:4242) = 1 ]'; ss -H -f netlink -e -m -p | grep rtnl:4242 | show; ss -H -f netlink | grep -c rtnl:kernel; kill $a; wait 2>/dev/null
tcpdump -i lo -w /dev/null 2>/dev/null & a=$!; until_true '[ $(ss -H -0 | wc -l) = 1 ]'; ss -H -0 -e -m -p | show; kill $a; wait 2>/dev/null; ss -s | grep -E '^(UDP|RAW)'
