# System calls on files beside a model of them, with blocks of 4 KiB and of 1 KiB; and the guest cases about files, on a disk.
# disk 48 ext4 -b 4096
# disk 48 ext4 -b 1024
mount -t ext4 $1 /mnt
mount -t ext4 $2 /mnt2
for seed in 1 2 3; do
    guest-tests --disk-calls /mnt $seed 150
    guest-tests --disk-calls /mnt2 $seed 150
done
umount /mnt2
umount /mnt
