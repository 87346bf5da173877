# Tables count in the disk's own blocks.
# disk 64 raw
# device logical_block_size=4096,physical_block_size=4096
# One primary partition: 256 blocks from block 512 on.
dd if=/dev/zero of=/tmp/mbr bs=512 count=1
printf '\0\0\0\0\203\0\0\0\0\002\0\0\0\001\0\0' | dd of=/tmp/mbr bs=1 seek=446 conv=notrunc
printf '\125\252' | dd of=/tmp/mbr bs=1 seek=510 conv=notrunc
dd if=/tmp/mbr of=$1 bs=512 conv=fsync
blockdev --rereadpt $1
[ $(cat /sys/class/block/${1#/dev/}1/start) = 4096 ]
[ $(cat /sys/class/block/${1#/dev/}1/size) = 2048 ]
[ $(blockdev --getss ${1}1) = 4096 ]
