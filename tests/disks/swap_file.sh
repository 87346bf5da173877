# Swap space in a file: nobody changes the file meanwhile, what does not fit into memory lies there, and then it is a file again.
# disk 300 ext4 -b 4096
# memory 128
mount -t ext4 $1 /mnt
dd if=/dev/zero of=/mnt/swap bs=1M count=200
chmod 600 /mnt/swap
mkswap /mnt/swap
dd if=/dev/zero of=/mnt/holes bs=1M count=1
truncate -s 8M /mnt/holes
chmod 600 /mnt/holes
mkswap /mnt/holes
fails swapon /mnt/holes 2>/tmp/why
grep 'Invalid argument\|has holes' /tmp/why
swapon /mnt/swap
grep '^/mnt/swap  *file' /proc/swaps
fails swapon /mnt/swap
fails dd if=/dev/zero of=/mnt/swap conv=notrunc bs=4k count=1 2>/tmp/why
grep 'Text file busy' /tmp/why
fails truncate -s 1M /mnt/swap
fails rm -f /mnt/swap
fails mv /mnt/swap /mnt/other
fails umount /mnt
mount -t tmpfs -o size=180M none /mnt2
dd if=/dev/urandom of=/tmp/piece bs=1M count=1
i=0
while [ $i -lt 150 ]; do cat /tmp/piece; i=$((i + 1)); done >/mnt2/much
[ $(awk '$1 == "/mnt/swap" { print $4 }' /proc/swaps) -gt 20000 ]
i=0
while [ $i -lt 150 ]; do dd if=/mnt2/much bs=1M skip=$i count=1 2>/dev/null | cmp - /tmp/piece; i=$((i + 7)); done
umount /mnt2
rm /tmp/piece
swapoff /mnt/swap
fails grep /mnt/swap /proc/swaps
dd if=/dev/zero of=/mnt/swap conv=notrunc bs=4k count=1
rm /mnt/swap
umount /mnt
