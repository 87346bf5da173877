# What Debian's own programs take on a file system: `sh programs.sh FOLDER TREE`. FOLDER is on the disk; TREE is a device with a tar archive.
# Prints NAME, a tab and nanoseconds for one of what the name says. With more arguments: only rows whose name contains one of them.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
folder=$1 tree=$2
shift 2
cd "$folder" || exit 1

wanted() {
    name=$1
    shift
    [ $# -gt 0 ] || return 0
    for part in "$@"; do
        case $name in *"$part"*) return 0 ;; esac
    done
    return 1
}

forget() { sync; echo 3 >/proc/sys/vm/drop_caches; }

# timed NAME COUNT COMMAND…: what one of COUNT things takes that the command does.
timed() {
    row=$1 count=$2
    shift 2
    start=$(date +%s%N)
    "$@" >/tmp/said 2>&1 || { echo "$row: failed:" >&2; tail -n 5 /tmp/said >&2; exit 1; }
    end=$(date +%s%N)
    printf '%s\t%s\n' "$row" $(((end - start) / count))
}

# fio's terse output: what one transfer takes, of all jobs together, from its own count of them in a second.
job() {
    row=$1 field=$2
    shift 2
    forget
    fio --name=job --filename=file --size=64m --ioengine=psync --fallocate=none --thread --group_reporting --output-format=terse "$@" >/tmp/said 2>&1 ||
        { echo "$row: failed:" >&2; tail -n 5 /tmp/said >&2; exit 1; }
    grep '^3;' /tmp/said | awk -F ';' -v row="$row" -v field="$field" '{ if ($field > 0) printf "%s\t%.0f\n", row, 1e9 / $field }'
}
reads=8 writes=49

dd if=/dev/zero of=file bs=1M count=64 conv=fsync 2>/dev/null
# psync does one transfer at a time, so the depth of the queue is a number of threads: Linnet has no io_submit or io_uring.
for way in direct buffered; do
    [ $way = direct ] && direct=1 || direct=0
    for jobs in 1 32; do
        row="fio: random read of 4 KiB, $way, $jobs at once"
        wanted "$row" "$@" && job "$row" $reads --rw=randread --bs=4k --direct=$direct --numjobs=$jobs --time_based --runtime=2
        row="fio: random write of 4 KiB, $way, $jobs at once"
        wanted "$row" "$@" && job "$row" $writes --rw=randwrite --bs=4k --direct=$direct --numjobs=$jobs --time_based --runtime=2
    done
    row="fio: 1 MiB after the other, $way, read"
    wanted "$row" "$@" && job "$row" $reads --rw=read --bs=1m --direct=$direct
    row="fio: 1 MiB after the other, $way, write"
    wanted "$row" "$@" && job "$row" $writes --rw=write --bs=1m --direct=$direct --end_fsync=1
done
row='fio: random write of 4 KiB and fsync'
wanted "$row" "$@" && job "$row" $writes --rw=randwrite --bs=4k --fsync=1 --time_based --runtime=2
rm -f file

inserts() {
    seq 100000 | awk -v each="$1" 'BEGIN { print "pragma synchronous = full; create table t (n integer primary key, text text);" }
        NR % each == 1 || each == 1 { print "begin;" } { printf "insert into t values (%d, '\''row number %d of them'\'');\n", $1, $1 } NR % each == 0 { print "commit;" }' >/tmp/inserts
    rm -f base
    forget
}
row='sqlite3: one of 100,000 inserts in one transaction'
wanted "$row" "$@" && { inserts 100000; timed "$row" 100000 sqlite3 base '.read /tmp/inserts'; }
row='sqlite3: one of 100,000 inserts in transactions of 100'
wanted "$row" "$@" && { inserts 100; timed "$row" 100000 sqlite3 base '.read /tmp/inserts'; }
rm -f base /tmp/inserts

# Of PostgreSQL's test the first table: one write of 8 KiB by each way of making it safe.
if wanted 'pg_test_fsync' "$@" && [ -x /usr/bin/pg_test_fsync ]; then
    forget
    pg_test_fsync -s 1 -f "$folder/synced" >/tmp/said 2>&1 || { tail -n 5 /tmp/said >&2; exit 1; }
    awk '/one 8/ { on = 1 } /two 8/ { on = 0 } on && $3 == "ops/sec" { printf "pg_test_fsync: 8 KiB, %s\t%.0f\n", $1, 1e9 / $2 }' /tmp/said
    rm -f synced
fi

if wanted 'a source tree' "$@"; then
    files=$(tar tf "$tree" | grep -vc '/$')
    forget
    timed 'tar: a file of a source tree is unpacked' "$files" sh -c "tar xf '$tree' && sync"
    forget
    timed 'du: a file of a source tree, cold' "$files" du -s tree
    timed 'find: a file of a source tree, warm' "$files" find tree -size +100k
    forget
    timed 'grep: a file of a source tree, cold' "$files" sh -c 'grep -r nowhere-in-it tree || true'
    timed 'rm: a file of a source tree' "$files" rm -r tree
fi

row='dbench: 1 MB moved by 4 clients'
if wanted "$row" "$@"; then
    forget
    dbench -t 10 -D "$folder" 4 >/tmp/said 2>&1 || { tail -n 5 /tmp/said >&2; exit 1; }
    awk -v row="$row" '/^Throughput/ { printf "%s\t%.0f\n", row, 1e9 / $2 }' /tmp/said
    rm -rf clients
fi
row='bonnie++: all of it, 128 MiB and 4096 files'
wanted "$row" "$@" && { forget; timed "$row" 1 bonnie++ -q -d "$folder" -s 128 -r 64 -n 4 -u root; }
exit 0
