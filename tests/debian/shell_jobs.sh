# masked
# bash: jobs, traps, coprocesses, process substitution, here documents, pipes.
trap 'echo exit' EXIT; trap 'echo usr1' USR1; kill -USR1 $$; set -o pipefail; false | true; echo $?; echo "${PIPESTATUS[@]}"
# Before exec bash's child still has bash's handler for the trap, which forgets the signal.
sleep 100 & until [ "$(</proc/$!/comm)" = sleep ]; do :; done; kill %1; wait %1 2>/dev/null; echo $?; coproc cat; echo through >&"${COPROC[1]}"; read -r line <&"${COPROC[0]}"; echo "$line"; kill $COPROC_PID; wait 2>/dev/null
diff <(echo a) <(echo a) && echo same; cat <<<here; read -t 0.1 x </dev/zero; (ulimit -v 20000; python3 -c 1 2>&1 | wc -l) >/dev/null; echo $((2**62)); printf '%(%Y)T\n' 0
for i in $(seq 200); do (exit $((i % 7))) & done; n=0; for j in $(jobs -p); do wait $j || n=$((n+1)); done; echo $n; exec 5<>fifo.txt; echo x >&5; cat fifo.txt
ulimit -c 0; bash -c 'kill -SEGV $$'; echo $?; bash -c 'kill -KILL $$'; echo $?; timeout 1 bash -c 'while :; do :; done'; echo $?
