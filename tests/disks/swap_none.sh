# Without swap space, who takes all the memory is killed, and nobody else.
# memory 128
guest-tests --swap none
