# The CNI plugins set up and remove networks of namespaces.
export CNI_PATH=/usr/lib/cni CNI_CONTAINERID=x CNI_IFNAME=eth0; ip link set lo up; sysctl -qw net.ipv4.ip_forward=1; ls $CNI_PATH | grep -E '^(bridge|ptp|loopback|host-local)$'
cat >br.json <<'C'
{"cniVersion": "0.4.0", "name": "br", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.22.0.0/16", "dataDir": "/tmp/cni-data"}}
C
cat >ptp.json <<'C'
{"cniVersion": "0.4.0", "name": "ptp", "type": "ptp", "ipam": {"type": "host-local", "subnet": "10.23.0.0/16", "dataDir": "/tmp/cni-data"}}
C
cat >lo.json <<'C'
{"cniVersion": "0.4.0", "name": "lo", "type": "loopback"}
C
for type in bridge:br ptp:ptp loopback:lo; do ip netns add t; export CNI_NETNS=/run/netns/t; i=eth0; [ $type = loopback:lo ] && i=lo; CNI_IFNAME=$i CNI_COMMAND=ADD $CNI_PATH/${type%:*} <${type#*:}.json | jq -c '.ips, .code, .msg' ; ip -n t -br addr show $i | awk '{print $1, $3}' | sed 's/@[^ ]*//'; CNI_IFNAME=$i CNI_COMMAND=DEL $CNI_PATH/${type%:*} <${type#*:}.json; echo $?; ip netns del t; done; ip link del cni0; ip link set lo down
