# Primary and logical partitions of an MBR.
# disk 96 sfdisk label: dos;1:size=20M;2:size=60M,type=5;5:size=10M;6:size=11M
name=${1#/dev/}
[ -b ${1}1 ]
[ -b ${1}2 ]
[ -b ${1}5 ]
[ -b ${1}6 ]
[ ! -e ${1}3 ]
[ $(cat /sys/class/block/${name}1/size) = 40960 ]
[ $(cat /sys/class/block/${name}5/size) = 20480 ]
[ $(cat /sys/class/block/${name}6/size) = 22528 ]
dd if=/dev/urandom of=/tmp/mbr bs=64k count=3 2>/dev/null
dd if=/tmp/mbr of=${1}6 2>/dev/null
sync
cmp -n 196608 /tmp/mbr ${1}6
