# Namespaces by util-linux, without privileges and with.
cd /; setpriv --reuid=1000 --regid=1000 --clear-groups unshare -Urmpfn bash -c 'id -u; echo $$; cat /proc/self/uid_map | tr -s " "; cat /proc/self/setgroups; mount -t tmpfs none /mnt && echo mounted; mount -t proc proc /proc && ls /proc | grep -c "^[0-9]"; ip link show lo | head -1; hostname x 2>&1'
setpriv --reuid=1000 --regid=1000 --clear-groups unshare -m true; echo $?; setpriv --reuid=1000 --regid=1000 --clear-groups unshare -n true; echo $?
unshare -u bash -c 'echo inner >/proc/sys/kernel/hostname; uname -n'; uname -n; unshare -p --fork --mount-proc bash -c 'echo $$; ps -e -o pid,comm | tail -n +2 | wc -l'
unshare -i bash -c 'readlink /proc/self/ns/ipc' | cut -c1-5; unshare -C readlink /proc/self/ns/cgroup | cut -c1-8; unshare -T --boottime 100000 bash -c 'test $(cut -d. -f1 /proc/uptime) -ge 100000 && echo time'
unshare --map-auto -U true 2>&1 | head -1; unshare -U --map-root-user cat /proc/self/gid_map | tr -s ' '; unshare -m --propagation slave findmnt -n -o PROPAGATION /
