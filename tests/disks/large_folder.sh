# A folder with 3,000 names, of which half go away.
# disk 48 ext4 -N 8000
mount -t ext4 $1 /mnt
mkdir /mnt/many
cd /mnt/many
seq 3000 | sed 's|^|a-name-that-is-not-short-|' | xargs touch
[ $(ls | wc -l) = 3000 ]
seq 1 2 3000 | sed 's|^|a-name-that-is-not-short-|' | xargs rm
[ $(ls | wc -l) = 1500 ]
cd /
umount /mnt
mount -t ext4 $1 /mnt
[ $(ls /mnt/many | wc -l) = 1500 ]
[ -e /mnt/many/a-name-that-is-not-short-2 ]
[ ! -e /mnt/many/a-name-that-is-not-short-3 ]
rm -r /mnt/many
umount /mnt
