# BLKPG: partitions that are in no table.
# disk 16 raw
guest-tests --disk-device parts $1
