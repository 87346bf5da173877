# Whose memory O_DIRECT reads and writes, on a file system.
# disk 48 ext4
mount -t ext4 $1 /mnt
guest-tests --disk-direct /mnt
umount /mnt
