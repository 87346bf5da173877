# A full disk says ENOSPC, keeps what is there, and can be used again.
# disk 24 ext4
mount -t ext4 $1 /mnt
echo kept >/mnt/kept
fails dd if=/dev/zero of=/mnt/fill bs=64k 2>/tmp/why
grep 'No space left' /tmp/why
i=0
while echo small >/mnt/small$i; do i=$((i + 1)); [ $i -lt 20000 ]; done 2>/dev/null
sync
[ "$(cat /mnt/kept)" = kept ]
rm /mnt/fill
sync
dd if=/dev/urandom of=/mnt/again bs=64k count=100
cp /mnt/again /tmp/again
umount /mnt
mount -t ext4 $1 /mnt
cmp /mnt/again /tmp/again
[ "$(cat /mnt/kept)" = kept ]
umount /mnt
rm /tmp/again
