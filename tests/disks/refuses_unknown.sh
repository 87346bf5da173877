# A feature that nobody knows: not even for reading; one that only writers must know: for reading.
# disk 16 ext4
# debugfs set_super_value feature_incompat 0x80000242
# not-checked
# disk 16 ext4
# debugfs set_super_value feature_ro_compat 0x8000046b
# not-checked
fails mount -t ext4 $1 /mnt
fails mount -t ext4 -o ro $1 /mnt
mount -t ext4 -o ro $2 /mnt
ls /mnt/lost+found
fails mount -o remount,rw /mnt
umount /mnt
