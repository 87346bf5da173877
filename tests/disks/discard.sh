# What was given back with FITRIM takes no place on the host.
# disk 64 ext4
# at-most 12
mount -t ext4 $1 /mnt
dd if=/dev/urandom of=/mnt/large bs=1M count=40
sync
rm /mnt/large
sync
fstrim -v /mnt
umount /mnt
