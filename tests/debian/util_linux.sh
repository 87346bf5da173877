# util-linux: locks, limits, scheduling, mounts.
flock lock sh -c 'flock -n lock true; echo $?'; flock -w 1 lock echo got; prlimit --nofile=64:64 bash -c 'ulimit -n'
taskset -c 0 nproc; chrt -f 10 chrt -p $$ | cut -d: -f2; chrt -o 0 true && echo other; ionice; ionice -c 3 ionice; setsid -w sh -c 'exit 4'; echo $?
mkdir m n; mount -t tmpfs -o size=1m,mode=700 name m; findmnt -n -o SOURCE,FSTYPE,TARGET m | sed "s|$PWD|.|"; dd if=/dev/zero of=m/f bs=1M count=2 2>&1 | head -1; df --output=size,pcent m | tail -1
mount --bind m n; ls n; mountpoint -q n && echo mountpoint; umount n m; mountpoint -q m; echo $?
getopt -o ab: -- -a -b 1 x; namei -m / | tail -1; rev <<<abc
mount -t tmpfs none m; mount --make-shared m; findmnt -n -o PROPAGATION m; mount --make-private m; findmnt -n -o PROPAGATION m; umount m
logger -s hi 2>&1 | sed 's/.*: //'; script -qc 'echo in a terminal; tty | cut -c1-8' /dev/null | tr -d '\r'; whereis -b ls | cut -d' ' -f2
fallocate -l 1M f; stat -c '%s %b' f; fallocate -p -o 0 -l 512K f; stat -c '%s %b' f; mcookie | wc -c; lscpu | grep -c CPU >/dev/null && echo lscpu
