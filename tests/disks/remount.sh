# Writing can be forbidden and allowed again.
# disk 32 ext4
mount -t ext4 $1 /mnt
echo one >/mnt/one
mount -o remount,ro /mnt
fails touch /mnt/two
[ $(cat /mnt/one) = one ]
grep " /mnt ext4 ro," /proc/mounts
mount -o remount,rw /mnt
echo three >/mnt/three
exec 3>/mnt/open
# Someone writes.
fails mount -o remount,ro /mnt
exec 3>&-
mount -o remount,ro /mnt
umount /mnt
mount -t ext4 $1 /mnt
[ "$(cat /mnt/one /mnt/three)" = "one
three" ]
umount /mnt
