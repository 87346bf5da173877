# Programs are run from a shared folder, and files mapped; what the host changes is seen.
# share
# after test "$(cat result)" = "ran from the share"
mount -t 9p -o trans=virtio,version=9p2000.L share /mnt
cd /mnt/$FOLDER
cp /bin/busybox .
./busybox echo ran from the share >result
test "$(cat result)" = "ran from the share"
cat >script <<'EOF'
#!/bin/sh
echo "$0 $1"
EOF
chmod +x script
test "$(./script argument)" = "./script argument"
cp script unexecutable
chmod -x unexecutable
fails ./unexecutable
# Another program of the same name is run the next time.
cp /bin/busybox echo
test "$(./echo one)" = one
rm echo
cp script echo
test "$(./echo two)" = "./echo two"
fails sh -c 'echo x >/mnt/no/such/file'
grep -q ' /mnt 9p ' /proc/mounts
grep -qw 9p /proc/filesystems
test "$(stat -f -c %l /mnt)" = 255
test $(df /mnt | tail -n 1 | wc -w) -ge 5
cd /
umount /mnt
