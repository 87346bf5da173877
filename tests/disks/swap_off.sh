# Swap space is taken away and given again under those who use it.
# disk 200 raw
# memory 128
guest-tests --swap off $1
