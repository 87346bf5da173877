# Sources several times larger than the memory are copied, searched and compiled with Debian's tcc, and the program runs.
# root debian
# memory 128
# disk 1024 ext4
# limit 400
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
mount -t ext4 $1 /mnt
mkdir /mnt/a
cd /mnt/a
main='int main(void) { return (0'
declared=
# What is between the comments is the program.
set +x
for number in $(seq 20); do
    { echo "int f$number(void) { return $number; } /*"; yes "a comment of file $number" | head -c 12000000; echo '*/'; } >$number.c
    declared="$declared int f$number(void);" main="$main + f$number()"
done
set -x
echo "$declared $main) == 210 ? 0 : 1; }" >main.c
echo '/* what is looked for */' >>17.c
cp -r /mnt/a /mnt/b
[ "$(grep -rFl 'what is looked for' /mnt/b)" = /mnt/b/17.c ]
cd /mnt/b
for source in *.c; do tcc -c $source; done
tcc -o program *.o
./program
cmp /mnt/a/20.c /mnt/b/20.c
cd /
umount /mnt
