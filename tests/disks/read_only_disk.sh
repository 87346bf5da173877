# A disk that cannot be written says so, and can be mounted only for reading.
# disk 32 ext4
# read-only
[ $(cat /sys/block/${1#/dev/}/ro) = 1 ]
[ $(blockdev --getro $1) = 1 ]
fails dd if=/dev/zero of=$1 bs=4k count=1
mount -t ext4 -o ro $1 /mnt
ls /mnt/lost+found
fails touch /mnt/x
fails mount -o remount,rw /mnt
umount /mnt
