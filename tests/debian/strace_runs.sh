# masked
strace -o t -e trace=openat,execve cat /dev/null; grep -c execve t; strace -c -o c true; grep -c total c; strace -f -e trace=fork,clone,vfork,clone3 -o f sh -c 'true; /bin/true'; grep -c exited f
sleep 100 & timeout 2 strace -p $! -e trace=none 2>&1 | head -1 | cut -c1-7; kill $!
