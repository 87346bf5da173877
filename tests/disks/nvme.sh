# The same on NVMe.
# disk 48 ext4
# nvme
mount -t ext4 $1 /mnt
dd if=/dev/urandom of=/tmp/nvme bs=64k count=64
cp /tmp/nvme /mnt/x
sync
umount /mnt
mount -t ext4 $1 /mnt
cmp /mnt/x /tmp/nvme
umount /mnt
rm /tmp/nvme
