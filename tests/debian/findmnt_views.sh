# findmnt: trees, columns, JSON, by path, changes as they happen.
until_true() { for i in $(seq 150); do eval "$1" && return; sleep 0.1; done; echo "never: $1"; }
mkdir tree; mount -t tmpfs -o size=1m,mode=711 first tree; mkdir tree/a 'tree/b c'; mount -t tmpfs -o ro,nosuid,nodev,noexec,noatime second tree/a; mount --bind tree/a 'tree/b c'; mount -o remount,bind,ro tree; here() { sed "s|$PWD|.|g; s/,inode64//"; }
findmnt -R -n -l -o TARGET,SOURCE,FSTYPE,VFS-OPTIONS,FS-OPTIONS tree | here; findmnt -R -n -r -o TARGET tree | here; findmnt -n -o TARGET,FSROOT -T 'tree/b c' | here; findmnt -J -o TARGET,SOURCE,PROPAGATION "$PWD/tree" | here; findmnt -n -t tmpfs -S second -o TARGET | here | sort; findmnt -n -D -o SOURCE,SIZE,USED,USE% -M $PWD/tree
mkdir tree2; mount --rbind tree tree2; findmnt -R -n -o TARGET tree2 | here; umount -R tree2; findmnt nothing; echo $?; mountpoint tree | here; mountpoint -d tree >/dev/null && echo device
findmnt -n --poll -o ACTION,TARGET,OLD-TARGET >seen & p=$!; until_true '[ -n "$(ls -l /proc/$p/fd | grep -E "mountinfo|eventpoll|mounts")" ]'; sleep 0.5; mkdir new moved; mount -t tmpfs x new; until_true 'grep -q mount seen'; mount -o remount,ro new; until_true 'grep -q remount seen'; umount new; until_true 'grep -q umount seen'; kill $p; wait 2>/dev/null; here <seen
umount -R tree; findmnt -n -o TARGET tree; echo $?
