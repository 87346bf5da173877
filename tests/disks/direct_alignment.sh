# What statx(2) tells of direct transfers: of disks, of files on them, of files that know none.
# disk 16 raw
# disk 16 raw
# device logical_block_size=4096,physical_block_size=4096
# disk 16 ext4
# disk 16 raw
# nvme
for disk in "$@"; do
    guest-tests --disk-device alignment $disk
done
[ "$(guest-tests --disk-device alignment $1)" = "$(printf 'false 0 0\ntrue 512 512')" ]
[ "$(guest-tests --disk-device alignment $2)" = "$(printf 'false 0 0\ntrue 512 4096')" ]
mount -t ext4 $3 /mnt
echo text >/mnt/file
[ "$(guest-tests --disk-device alignment /mnt/file)" = "$(printf 'false 0 0\ntrue 512 512')" ]
[ "$(guest-tests --disk-device alignment /mnt)" = "$(printf 'false 0 0\nfalse 0 0')" ]
umount /mnt
[ "$(guest-tests --disk-device alignment /dev/null)" = "$(printf 'false 0 0\nfalse 0 0')" ]
