# Shared memory and files of tmpfs beyond what memory holds.
# disk 400 raw
# memory 128
guest-tests --swap shared $1
