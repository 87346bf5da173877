# Clusters of blocks: whoever does not support them leaves the disk alone.
# disk 32 ext4 -O bigalloc -C 16384
if mount -t ext4 $1 /mnt; then
    dd if=/dev/urandom of=/mnt/x bs=10k count=10
    umount /mnt
fi
