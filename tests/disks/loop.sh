# A file system in a file of a file system; the image that comes out is in order, too.
# disk 64 ext4
# disk 16 ext4 -b 1024
mount -t ext4 $1 /mnt
dd if=$2 of=/mnt/image bs=1M
losetup /dev/loop3 /mnt/image
[ $(blockdev --getsize64 /dev/loop3) = 16777216 ]
mount -t ext4 /dev/loop3 /mnt2
echo inside >/mnt2/file
dd if=/dev/urandom of=/mnt2/more bs=64k count=20
md5sum </mnt2/more >/tmp/sum
fails umount /mnt
umount /mnt2
losetup -d /dev/loop3
dd if=/mnt/image of=$2 bs=1M
umount /mnt
mount -t ext4 $2 /mnt
[ $(cat /mnt/file) = inside ]
md5sum </mnt/more | cmp - /tmp/sum
umount /mnt
