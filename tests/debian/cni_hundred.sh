# limit: 600 s
# The CNI plugins set up the networks of 100 namespaces, two at a time, so that all are there at once; then remove them.
export CNI_PATH=/usr/lib/cni; sysctl -qw net.ipv4.ip_forward=1
cat >bridge.json <<'C'
{"cniVersion": "0.4.0", "name": "b100", "type": "bridge", "bridge": "cni1", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.24.0.0/16", "dataDir": "/tmp/cni-hundred"}}
C
cat >ptp.json <<'C'
{"cniVersion": "0.4.0", "name": "p100", "type": "ptp", "ipam": {"type": "host-local", "subnet": "10.25.0.0/16", "dataDir": "/tmp/cni-hundred"}}
C
cat >loopback.json <<'C'
{"cniVersion": "0.4.0", "name": "l100", "type": "loopback"}
C
cat >one <<'S'
case $(($1 % 3)) in 0) plugin=bridge;; 1) plugin=ptp;; 2) plugin=loopback;; esac
export CNI_NETNS=/run/netns/h$1 CNI_CONTAINERID=h$1 CNI_COMMAND=$2 CNI_IFNAME=eth0; [ $plugin = loopback ] && CNI_IFNAME=lo
[ $2 = ADD ] && ip netns add h$1; $CNI_PATH/$plugin <$plugin.json >$1.$plugin.$2 || echo "$1 $plugin $2: $?"
S
links() { ip -br link show type veth | wc -l; ip -br link show master cni1 | wc -l; }; taken() { ls /tmp/cni-hundred/b100 /tmp/cni-hundred/p100 | grep -c '^10\.'; }
seq 100 | xargs -P 2 -I N bash one N ADD; ip netns list | grep -c '^h'; links; taken; for plugin in bridge ptp loopback; do cat *.$plugin.ADD | jq -r '.ips[].address' | sort -V | uniq -c | sed 's/^ *//' | sed -n '1p;$p'; cat *.$plugin.ADD | jq -r '.ips[0].address' | sort -u | wc -l; done
for pair in "3 99" "99 3" "4 100" "6 7" "7 96"; do set -- $pair; to=$(jq -r '.ips[0].address' $2.*.ADD); ip netns exec h$1 ping -n -c 1 -W 5 ${to%/*} | grep -o '[0-9]* received'; done; ip -n h5 -br addr show lo | awk '{print $1, $3, $4}'; ip -n h3 route | sed 's/ dev.*//'; ip -n h4 route | sed 's/ dev.*//'
seq 100 | xargs -P 2 -I N bash one N DEL; links; taken; for n in $(seq 100); do ip -n h$n -br link show type veth; ip netns del h$n; done; ip netns list | grep -c '^h'; ip link del cni1; ip -br link | grep -c -E 'veth|cni1'
