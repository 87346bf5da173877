# Contents of files that the journal does not wait for (data=writeback): written, synced, cut, and the same after a remount.
# disk 64 ext4
mount -t ext4 -o data=writeback $1 /mnt
grep " /mnt ext4 .*data=writeback" /proc/mounts
dd if=/dev/urandom of=/tmp/contents bs=64k count=160
cp /tmp/contents /mnt/copied
dd if=/tmp/contents of=/mnt/synced bs=64k conv=fsync
dd if=/tmp/contents of=/mnt/holes bs=4k seek=100 count=10
cp /mnt/holes /tmp/holes
cp /tmp/contents /mnt/cut
truncate -s 12345 /mnt/cut
echo more >>/mnt/cut
cp /mnt/cut /tmp/cut
mv /mnt/copied /mnt/renamed
umount /mnt
mount -t ext4 -o data=writeback $1 /mnt
cmp /tmp/contents /mnt/renamed
cmp /tmp/contents /mnt/synced
cmp /tmp/holes /mnt/holes
cmp /tmp/cut /mnt/cut
dd if=/tmp/contents of=/mnt/cut bs=64k conv=fsync
umount /mnt
mount -t ext4 $1 /mnt
cmp /tmp/contents /mnt/cut
umount /mnt
rm /tmp/contents /tmp/holes /tmp/cut
