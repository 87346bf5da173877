# swapon, swapoff and advice: what they do, what the files of /proc say, what they refuse; forks, threads, moves and priorities.
# disk 32 raw
# disk 16 raw
# memory 128
guest-tests --swap errors $1
guest-tests --swap basic $1
guest-tests --swap fork $1
guest-tests --swap threads $1
guest-tests --swap remap $1
guest-tests --swap priorities $2 $1
