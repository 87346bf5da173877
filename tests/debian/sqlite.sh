# A data base on tmpfs: journal modes, locks between processes.
for mode in delete wal memory; do
    sqlite3 $mode.db "pragma journal_mode=$mode; create table t(a integer primary key, b text); begin; with recursive c(x) as (select 1 union all select x+1 from c where x<5000) insert into t select x, 'row ' || x from c; commit; select count(*), sum(a), max(b) from t; pragma integrity_check;"
done
sqlite3 delete.db 'begin exclusive; select 1;' '.shell sqlite3 delete.db "insert into t values (9999, 1)"; echo $?' 'commit;' 2>&1
sqlite3 wal.db "delete from t where a % 2; select count(*) from t; vacuum; select count(*) from t;"
