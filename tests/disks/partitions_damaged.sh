# A GPT of which one copy is damaged is found by the other; damaged twice there is none. Sizes are in sectors of 512 bytes.
# disk 32 sfdisk label: gpt;size=8M;size=8M
[ -b ${1}1 ]
# The second header, in the last sector.
dd if=/dev/zero of=$1 bs=512 seek=65535 count=1 conv=fsync
blockdev --rereadpt $1
[ -b ${1}1 ]
[ -b ${1}2 ]
fails blockdev --rereadpt ${1}1
# The first, too.
dd if=$1 of=/tmp/header bs=512 skip=1 count=1
dd if=/dev/zero of=$1 bs=512 seek=1 count=1 conv=fsync
blockdev --rereadpt $1
[ ! -e ${1}1 ]
dd if=/tmp/header of=$1 bs=512 seek=1 count=1 conv=fsync
blockdev --rereadpt $1
[ -b ${1}2 ]
[ $(cat /sys/class/block/${1#/dev/}2/size) = 16384 ]
# Somebody has one open: the table stays as it is.
exec 3<${1}2
fails blockdev --rereadpt $1
exec 3<&-
blockdev --rereadpt $1
# Without its protective MBR it is no GPT.
dd if=/dev/zero of=$1 bs=512 count=1 conv=fsync
blockdev --rereadpt $1
[ ! -e ${1}1 ]
