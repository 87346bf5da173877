# Entering the namespaces of a process and of a bind mount; listing them.
mkdir b; touch b/net b/uts b/mnt; mount --bind b b; mount --make-private b
unshare --net=b/net --uts=b/uts --mount=b/mnt bash -c 'echo inside >/proc/sys/kernel/hostname; mount -t tmpfs marked /mnt'
nsenter --uts=b/uts uname -n; nsenter --net=b/net ip -o link | wc -l; nsenter --mount=b/mnt findmnt -n -o SOURCE /mnt; findmnt -n -o SOURCE /mnt; echo $?
unshare -u sleep 100 & sleep 0.5; nsenter -t $! -u readlink /proc/self/ns/uts | diff - <(readlink /proc/$!/ns/uts) && echo same; lsns -n -t uts -o NPROCS,TYPE -p $!; kill $!; wait 2>/dev/null
lsns -n -o TYPE -p $$ | sort | tr '\n' ' '; umount b/net b/uts b/mnt; umount b; unshare -p --fork --kill-child bash -c 'sleep 100 & readlink /proc/$$/ns/pid | cut -c1-3'; stat -L -c '%F' /proc/self/ns/net
