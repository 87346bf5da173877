# The times that a file system cannot keep are cut at once, not only when the inode has left the memory.
# disk 32 ext4 -I 128
# disk 32 ext4
mkdir -p /tmp/small /tmp/large
mount -t ext4 $1 /tmp/small
mount -t ext4 $2 /tmp/large
# Inodes of 128 bytes have whole seconds, up to 2038; larger ones nanoseconds, up to 2446.
echo one >/tmp/small/now
for number in 1 2 3 4 5 6; do echo one >/tmp/large/$number; done
stat -c %y /tmp/small/now | grep '\.000000000 '
stat -c %x /tmp/small/now | grep '\.000000000 '
stat -c %z /tmp/small/now | grep '\.000000000 '
stat -c %y /tmp/large/* | grep -v '\.000000000 '
for seconds in -3000000000 -5 1000000000 4000000000 20000000000; do
  echo $seconds >/tmp/small/$seconds
  touch -d @$seconds /tmp/small/$seconds
  echo $seconds >/tmp/large/$seconds
  touch -d @$seconds /tmp/large/$seconds
done
check() {
  [ "$(cd $1 && stat -c %Y -- -3000000000 -5 1000000000 4000000000 20000000000 | xargs)" = "$2" ]
}
small="-2147483648 -5 1000000000 2147483647 2147483647"
large="-2147483648 -5 1000000000 4000000000 15032385535"
check /tmp/small "$small"
check /tmp/large "$large"
umount /tmp/small
umount /tmp/large
mount -t ext4 $1 /tmp/small
mount -t ext4 $2 /tmp/large
check /tmp/small "$small"
check /tmp/large "$large"
umount /tmp/small
umount /tmp/large
