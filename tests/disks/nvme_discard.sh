# What NVMe disks are told is not needed any more takes no place on the host, and the queue says what can be told.
# disk 64 ext4
# nvme
# at-most 12
# disk 32 raw
# nvme
# at-most 2
queue=/sys/block/${2#/dev/}/queue
head $queue/discard_* $queue/*zeroes_max*
[ $(cat $queue/discard_granularity) = 4096 ]
[ $(cat $queue/discard_max_hw_bytes) -gt 1000000000 ]
[ $(cat $queue/discard_max_bytes) = $(cat $queue/discard_max_hw_bytes) ]
[ $(cat $queue/write_zeroes_max_bytes) -gt 0 ]
mount -t ext4 $1 /mnt
dd if=/dev/urandom of=/mnt/large bs=1M count=40
sync
rm /mnt/large
sync
fstrim -v /mnt
umount /mnt
dd if=/dev/urandom of=$2 bs=1M count=32 conv=fsync
blkdiscard -o 1048576 -l 31457280 $2
dd if=$2 of=/tmp/first bs=1M count=1
dd if=/dev/urandom of=$2 bs=4k count=1 seek=1000 conv=fsync
dd if=$2 bs=1M count=1 | cmp - /tmp/first
rm /tmp/first
