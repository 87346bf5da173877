# Mounting a shared folder: once at a time, by its tag, with options that are known.
# share
# before echo x >file; ln -s /etc outside; mkdir locked
tag=$(cat /sys/bus/virtio/devices/virtio*/mount_tag | tr -d '\0')
test "$tag" = share
fails mount -t 9p -o trans=virtio,version=9p2000.L nothing /mnt
fails mount -t 9p -o trans=virtio,version=9p2000.L,msize=100 share /mnt
mount -t 9p -o trans=virtio,version=9p2000.L,msize=8192 share /mnt
fails mount -t 9p -o trans=virtio,version=9p2000.L share /mnt2
head -c 100000 /dev/urandom >/tmp/bytes
cp /tmp/bytes /mnt/$FOLDER/bytes
cmp /tmp/bytes /mnt/$FOLDER/bytes
rm /tmp/bytes
umount /mnt
mount -t 9p -o trans=virtio,version=9p2000.L,ro share /mnt
fails touch /mnt/$FOLDER/new
fails rm /mnt/$FOLDER/file
test "$(cat /mnt/$FOLDER/file)" = x
# A link leads where it leads in the guest.
test "$(ls /mnt/$FOLDER/outside/)" = "$(ls /etc/)"
fails umount /mnt/$FOLDER
mkdir -p /tmp/here
mount --bind /mnt/$FOLDER /tmp/here
test "$(cat /tmp/here/file)" = x
umount /mnt
test "$(cat /tmp/here/file)" = x
umount /tmp/here
mount -t 9p -o trans=virtio,version=9p2000.L share /mnt
mount -t tmpfs tmpfs /mnt/$FOLDER/locked
touch /mnt/$FOLDER/locked/in-memory
test -e /mnt/$FOLDER/locked/in-memory
fails umount /mnt
umount /mnt/$FOLDER/locked
test ! -e /mnt/$FOLDER/locked/in-memory
umount /mnt
