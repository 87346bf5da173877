# Partitions of a GPT are devices of their own, where the table says.
# disk 96 sfdisk label: gpt;size=40M;size=20M,name=second;size=+
name=${1#/dev/}
[ -b ${1}1 ]
[ -b ${1}2 ]
[ -b ${1}3 ]
[ ! -e ${1}4 ]
[ $(cat /sys/class/block/${name}1/size) = 81920 ]
[ $(cat /sys/class/block/${name}2/size) = 40960 ]
[ $(cat /sys/class/block/${name}2/partition) = 2 ]
[ $(blockdev --getsize64 ${1}2) = 20971520 ]
grep -q " ${name}3\$" /proc/partitions
dd if=/dev/urandom of=/tmp/gpt bs=64k count=3 2>/dev/null
dd if=/tmp/gpt of=${1}2 2>/dev/null
sync
start=$(cat /sys/class/block/${name}2/start)
echo 3 >/proc/sys/vm/drop_caches
dd if=$1 bs=512 skip=$start count=384 2>/dev/null | cmp - /tmp/gpt
# The end of a partition is its end.
fails dd if=/dev/zero of=${1}2 bs=1M seek=20 count=1
