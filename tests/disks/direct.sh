# O_DIRECT to a file and to the disk itself.
# disk 48 ext4
# disk 16 raw
dd if=/dev/urandom of=/tmp/direct bs=64k count=32
mount -t ext4 $1 /mnt
dd if=/tmp/direct of=/mnt/x bs=64k oflag=direct
dd if=/mnt/x of=/tmp/back bs=128k iflag=direct
cmp /tmp/direct /tmp/back
cmp /tmp/direct /mnt/x
umount /mnt
dd if=/tmp/direct of=$2 bs=64k oflag=direct
dd if=$2 of=/tmp/back bs=512k iflag=direct count=4
cmp /tmp/direct /tmp/back
cmp -n 2097152 /tmp/direct $2
rm /tmp/direct /tmp/back
