# Trees many times larger than the memory are copied, read and searched.
# disk 512 ext4
# memory 128
mount -t ext4 $1 /mnt
mkdir /mnt/a
i=0
while [ $i -lt 20 ]; do
    head -c 5000000 /dev/urandom >/mnt/a/$i
    i=$((i + 1))
done
printf '\nwhat is looked for\n' >>/mnt/a/17
cp -r /mnt/a /mnt/b
grep -rFl 'what is looked for' /mnt/b | grep -x /mnt/b/17
i=0
while [ $i -lt 20 ]; do
    cmp /mnt/a/$i /mnt/b/$i
    i=$((i + 1))
done
umount /mnt
