# /proc/pressure and its triggers.
# disk 32 raw
# memory 128
guest-tests --swap pressure $1
