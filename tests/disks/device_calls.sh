# The usual questions about a disk, and a second writer that is kept out.
# disk 16 ext4
name=${1#/dev/}
[ $(blockdev --getsz $1) = 32768 ]
[ $(blockdev --getss $1) = 512 ]
[ $(blockdev --getsize64 $1) = 16777216 ]
[ $(blockdev --getro $1) = 0 ]
blockdev --flushbufs $1
[ $(cat /sys/block/$name/size) = 32768 ]
[ $(cat /sys/block/$name/queue/logical_block_size) = 512 ]
[ -d /sys/class/block/$name ]
[ $(stat -c %t:%T $1) = $(awk -F: '{ printf "%x:%x", $1, $2 }' /sys/block/$name/dev) ]
mount -t ext4 $1 /mnt
# It is in use: nothing may read its partitions anew.
fails blockdev --rereadpt $1
umount /mnt
blockdev --rereadpt $1
