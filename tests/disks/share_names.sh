# Names of a shared folder: renamed, linked, removed, many of them; and the errors of each.
# share
# before mkdir full; touch full/x
# after test "$(ls many | wc -l)" = 300; test "$(cat moved/file)" = contents; test "$(stat -c %h first)" = 2; test ! -e full
mount -t 9p -o trans=virtio,version=9p2000.L share /mnt
cd /mnt/$FOLDER
fails rmdir full
fails mkdir full
fails rm full
fails cat nothing
fails rmdir nothing
fails mkdir nothing/below
fails cat full
fails ln full hard
rm -r full
test ! -e full
mkdir from
echo contents >from/file
mv from moved
test "$(cat moved/file)" = contents
test ! -e from
echo a >first
echo b >over
mv over first
test "$(cat first)" = b
test ! -e over
ln first second
test "$(stat -c %h first)" = 2
test "$(stat -c %i first)" = "$(stat -c %i second)"
echo c >>second
test "$(cat first)" = "b
c"
mkdir many
i=0
while [ $i -lt 300 ]; do : >many/a_rather_long_name_for_a_file_$i; i=$((i + 1)); done
test "$(ls many | wc -l)" = 300
test "$(ls -a many | sort -u | wc -l)" = 302
# A file is in use when its name goes.
echo kept >victim
exec 5<victim
rm victim
test ! -e victim
read -r line <&5
test "$line" = kept
exec 5<&-
# The longest name, and one byte more.
long=$(printf '%255s' | tr ' ' n)
echo x >$long
test "$(cat $long)" = x
rm $long
fails touch n$long
# Where a working directory is stays so.
mkdir here
cd here
mv ../here ../there
echo x >in
test "$(cat ../there/in)" = x
test "$(pwd -P)" = /mnt/$FOLDER/there
cd /
umount /mnt
