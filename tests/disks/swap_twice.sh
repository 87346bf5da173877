# A working set of twice the memory, and locked pages beside another.
# disk 400 raw
# memory 128
guest-tests --swap twice $1
guest-tests --swap locked $1
