# Debian's apt-get on a disk, with a repository of files: what is installed brings what it depends on, and runs.
# root debian
# packages jq libjq1 libonig5 hello
# limit 200
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
echo 'deb [trusted=yes] file:/packages ./' >/etc/apt/sources.list
rm -rf /etc/apt/sources.list.d
apt-get update
apt-get install -y jq hello
[ "$(echo '{"a": [1, 2]}' | jq '.a[1]')" = 2 ]
hello
dpkg -V jq libjq1 libonig5 hello
apt-get check
apt-get remove -y libonig5
fails which jq
dpkg -s hello | grep -x 'Status: install ok installed'
apt-get purge -y hello
fails hello
