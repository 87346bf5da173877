# A disk is written, read, zeroed and mapped in every way beside a model, on virtio's rings of both kinds and on NVMe, with blocks of 512 and of 4096 bytes.
# disk 16 raw
# disk 16 raw
# device packed=on,num-queues=2
# disk 16 raw
# device num-queues=1,queue-size=4,seg-max-adjust=off,discard=off,write-zeroes=off
# disk 16 raw
# device logical_block_size=4096,physical_block_size=4096
# disk 16 raw
# nvme
# disk 16 raw
# nvme
# device logical_block_size=4096,physical_block_size=4096
for disk in "$@"; do
    for seed in 1 2; do
        guest-tests --disk-device model $disk $seed 150
    done
done
