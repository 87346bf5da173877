# What is read and written is counted, the same in /proc/diskstats and below /sys.
# disk 16 raw
name=${1#/dev/}
value() { awk -v disk=$name -v at=$1 '$3 == disk { print $(at + 3) }' /proc/diskstats; }
read_before=$(value 3) written_before=$(value 7)
dd if=/dev/zero of=$1 bs=64k count=16 oflag=direct
dd if=$1 of=/dev/null bs=64k count=8 iflag=direct
[ $(($(value 3) - read_before)) = 1024 ]
[ $(($(value 7) - written_before)) = 2048 ]
[ $(value 9) = 0 ]
[ $(awk '{ print $7 }' /sys/block/$name/stat) = $(value 7) ]
