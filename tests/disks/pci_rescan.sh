# A disk's PCI function is taken away by hand and found again.
# disk 32 ext4
# disk 32 ext4
# nvme
for disk in $1 $2; do
    name=${disk#/dev/}
    mount -t ext4 $disk /mnt
    echo $name >/mnt/name
    umount /mnt
    function=$(realpath /sys/block/$name/device)
    while [ ! -e $function/remove ]; do function=${function%/*}; done
    echo 1 >$function/remove
    tries=0
    while [ -e /sys/block/$name ] || [ -e $disk ] || [ -e $function ]; do sleep 0.1; tries=$((tries + 1)); [ $tries -lt 100 ]; done
    [ ! -e /sys/bus/pci/devices/${function##*/} ]
    echo 1 >/sys/bus/pci/rescan
    tries=0
    while [ ! -b $disk ]; do sleep 0.1; tries=$((tries + 1)); [ $tries -lt 100 ]; done
    [ -e $function/remove ]
    mount -t ext4 $disk /mnt
    [ $(cat /mnt/name) = $name ]
    umount /mnt
done
