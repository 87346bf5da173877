# masked
sleep 100 & ps -o ppid,pgid,stat,comm -p $!; ps -C sleep -o comm=,args=; pgrep -c sleep; pkill sleep; wait
ps -eo user,stat,comm | grep -c .>/dev/null && echo ps; free | head -1; uptime >/dev/null && echo uptime; vmstat 2>&1 | head -1
top -b -n1 | head -2 | cut -c1-15; w -h | wc -l; pmap $$ | tail -1 | cut -c1-6; pwdx $$ | sed 's/.*: //'
sysctl -n kernel.ostype kernel.pid_max fs.pipe-max-size; slabtop -o 2>&1 | head -1 | cut -c1-10
killall -l | head -1; fuser -v . 2>&1 | tail -1 | awk '{print $NF}'; pstree -A $$ | head -1 | cut -c1-4
