# Debian's sqlite3 keeps a table in memory that is larger than it: with swap space it comes through.
# root debian
# memory 128
# disk 400 raw
# limit 250
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
table() {
    sqlite3 :memory: "create table t (n integer, text text);
        with recursive c(x) as (select 1 union all select x + 1 from c where x < 1600) insert into t select x, printf('%0100000d', x) from c;
        select count(*), sum(substr(text, -10)) from t;"
}
mkswap $1
swapon $1
[ "$(table)" = '1600|1280800' ]
grep '^SwapTotal: *40959[0-9] kB' /proc/meminfo
swapoff $1
