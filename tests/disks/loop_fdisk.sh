# BusyBox's own tools: fdisk makes a table in a file (and fails to have it read anew), losetup shows its partitions.
dd if=/dev/zero of=/tmp/table bs=1M count=20
printf 'n\np\n1\n2048\n+5M\nn\np\n2\n20480\n\nw\n' | fdisk /tmp/table || true
losetup -P /dev/loop5 /tmp/table
ls -l /dev/loop5*
[ -b /dev/loop5p1 ]
[ -b /dev/loop5p2 ]
[ $(cat /sys/class/block/loop5p1/start) = 2048 ]
losetup -a | grep -q '^/dev/loop5.*/tmp/table'
losetup -d /dev/loop5
[ ! -e /dev/loop5p1 ]
rm /tmp/table
