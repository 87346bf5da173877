# Settings below /proc/sys/vm.
# disk 32 raw
# memory 128
guest-tests --swap knobs $1
guest-tests --swap allocating
