# A folder of the host: what is there is listed and read, what is made is there on the host.
# share
# before echo hello >greeting; mkdir -p folder/below; echo deep >folder/below/file; ln -s folder/below/file link; head -c 3000000 /dev/urandom >large; sha256sum large >sums
# after test "$(cat made)" = written; sha256sum -c sums2; test "$(readlink pointer)" = greeting; test -d new/empty; test ! -e gone
# after test "$(stat -c %a made)" = 640; test "$(stat -c %Y made)" = 1000000000; test "$(stat -c %s short)" = 5; test "$(stat -c %s longer)" = 8192
mount -t 9p -o trans=virtio,version=9p2000.L share /mnt
cd /mnt/$FOLDER
test "$(cat greeting)" = hello
test "$(cat link)" = deep
test "$(readlink link)" = folder/below/file
test "$(ls | tr '\n' ' ')" = "folder greeting large link sums "
sha256sum -c sums
echo written >made
chmod 640 made
touch -d @1000000000 made
test "$(stat -c %a:%Y:%s made)" = 640:1000000000:8
head -c 5000001 /dev/urandom >big
sha256sum big >sums2
sha256sum -c sums2
ln -s greeting pointer
test "$(cat pointer)" = hello
mkdir -p new/empty
echo x >gone
rm gone
echo 0123456789 >short
truncate -s 5 short
test "$(cat short)" = 01234
echo a >longer
truncate -s 8192 longer
test "$(wc -c <longer)" = 8192
cmp -n 2 longer - <<'EOF'
a
EOF
# A hole, a piece in the middle, an append.
dd if=/dev/zero of=sparse bs=1 count=1 seek=100000
test "$(stat -c %s sparse)" = 100001
printf XYZ | dd of=sparse bs=1 seek=50000 conv=notrunc
test "$(dd if=sparse bs=1 skip=50000 count=3)" = XYZ
echo one >appended
echo two >>appended
test "$(cat appended)" = "one
two"
sync appended
cd /
umount /mnt
# Everything was let go of: it can be mounted again at once.
mount -t 9p -o trans=virtio,version=9p2000.L share /mnt
test "$(cat /mnt/$FOLDER/made)" = written
umount /mnt
