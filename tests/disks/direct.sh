# O_DIRECT to a file and to the disk itself.
# disk 48 ext4
# disk 16 raw
dd if=/dev/urandom of=/tmp/direct bs=64k count=32
mount -t ext4 $1 /mnt
dd if=/tmp/direct of=/mnt/x bs=64k oflag=direct
dd if=/mnt/x of=/tmp/back bs=128k iflag=direct
cmp /tmp/direct /tmp/back
cmp /tmp/direct /mnt/x
# Over what is there: past the page cache, which has the same afterwards; also where the cache has something newer.
dd if=/tmp/direct of=/mnt/x bs=4k skip=7 seek=100 count=50 conv=notrunc
dd if=/tmp/direct of=/mnt/x bs=512 skip=11 seek=1001 count=100 oflag=direct conv=notrunc
dd if=/tmp/direct of=/tmp/direct2 bs=64k
dd if=/tmp/direct of=/tmp/direct2 bs=4k skip=7 seek=100 count=50 conv=notrunc
dd if=/tmp/direct of=/tmp/direct2 bs=512 skip=11 seek=1001 count=100 conv=notrunc
cmp /tmp/direct2 /mnt/x
dd if=/mnt/x of=/tmp/back bs=96k iflag=direct
cmp /tmp/direct2 /tmp/back
# Holes read as zeros and the last block ends where the file does.
dd if=/tmp/direct of=/mnt/sparse bs=1000 count=1 seek=300
dd if=/mnt/sparse of=/tmp/back bs=64k iflag=direct
cmp /mnt/sparse /tmp/back
umount /mnt
mount -t ext4 $1 /mnt
cmp /tmp/direct2 /mnt/x
rm /tmp/direct2
umount /mnt
dd if=/tmp/direct of=$2 bs=64k oflag=direct
dd if=$2 of=/tmp/back bs=512k iflag=direct count=4
cmp /tmp/direct /tmp/back
cmp -n 2097152 /tmp/direct $2
rm /tmp/direct /tmp/back
