# Contents of files in the journal (data=journal): written, synced, cut, over a remount, and with attributes of single files.
# disk 64 ext4
mount -t ext4 -o data=journal $1 /mnt
grep " /mnt ext4 .*data=journal" /proc/mounts
dd if=/dev/urandom of=/tmp/contents bs=64k count=160
cp /tmp/contents /mnt/copied
dd if=/tmp/contents of=/mnt/synced bs=64k conv=fsync
dd if=/tmp/contents of=/mnt/holes bs=4k seek=100 count=10
dd if=/tmp/contents of=/mnt/holes bs=1000 seek=9 count=3 conv=notrunc
cp /mnt/holes /tmp/holes
cp /tmp/contents /mnt/cut
truncate -s 12345 /mnt/cut
echo more >>/mnt/cut
cp /mnt/cut /tmp/cut
# More than the journal has room for, and freed blocks that hold something else afterwards.
for turn in 1 2 3; do
	cp /tmp/contents /mnt/turn$turn
	rm /mnt/copied
	cp /tmp/contents /mnt/copied
done
rm /mnt/turn1 /mnt/turn2
mkdir /mnt/folder
for number in $(seq 50); do echo $number >/mnt/folder/$number; done
sync
cmp /tmp/contents /mnt/copied
# How contents are kept cannot be changed while it is mounted.
fails mount -o remount,data=writeback /mnt
umount /mnt
for how in journal ordered writeback; do
	mount -t ext4 -o data=$how $1 /mnt
	for name in copied synced turn3; do cmp /tmp/contents /mnt/$name; done
	cmp /tmp/holes /mnt/holes
	cmp /tmp/cut /mnt/cut
	for number in $(seq 50); do [ $(cat /mnt/folder/$number) = $number ]; done
	umount /mnt
done
rm /tmp/contents /tmp/holes /tmp/cut
