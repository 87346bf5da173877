# The same on virtio-mmio that is told on the command line.
# disk 48 ext4
# microvm-no-acpi
mount -t ext4 $1 /mnt
dd if=/dev/urandom of=/tmp/mmio bs=64k count=64
cp /tmp/mmio /mnt/x
sync
umount /mnt
mount -t ext4 $1 /mnt
cmp /mnt/x /tmp/mmio
umount /mnt
