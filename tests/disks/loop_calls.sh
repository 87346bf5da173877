# Loop devices by their calls, on files in memory.
mkdir /tmp/loops
guest-tests --disk-loop /tmp/loops
rm -r /tmp/loops
