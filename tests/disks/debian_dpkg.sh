# Debian's dpkg on a disk: a package is installed, checked, removed and installed again, as after a download.
# root debian
# packages tree
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
grep ' / ext4 ' /proc/mounts
fails which tree
dpkg -i /packages/tree_*.deb
dpkg -V tree
tree -a /etc/apt | tail -n 1 | grep directories
dpkg -s tree | grep -x 'Status: install ok installed'
dpkg --audit
dpkg -P tree
fails which tree
dpkg --unpack /packages/tree_*.deb
dpkg -s tree | grep -x 'Status: install ok unpacked'
dpkg --configure -a
dpkg -s tree | grep -x 'Status: install ok installed'
