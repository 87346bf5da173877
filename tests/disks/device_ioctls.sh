# The calls of ioctl(2) that every disk has, and mappings of it.
# disk 16 raw
# disk 16 raw
# nvme
for disk in "$@"; do
    guest-tests --disk-device ioctls $disk
    guest-tests --disk-device mapped $disk
done
