# Text, numbers, files: GNU coreutils, findutils, grep, sed, awk.
seq 1 1000 | sort -R | sort -n | sha256sum
seq 1 20000 | split -l 5000 - part; wc -l part*; cat part* | md5sum; rm part*
printf 'b 2\na 1\nc 3\n' > t; sort t | join - <(sort t) | tac | paste - - -
mkdir -p tree/{a,b}/{1,2}; touch tree/a/1/x tree/b/2/y; find tree -type f | sort; find tree -depth -empty | sort
cp -a tree copy && diff -r tree copy && echo same; du -a --apparent-size -b tree/a/1/x
ln -s x tree/a/1/link; ln tree/a/1/x tree/a/1/hard; stat -c '%F %h %A' tree/a/1/*; readlink -f tree/a/1/link | sed "s|$PWD|.|"
dd if=/dev/zero of=big bs=1M count=8 2>&1 | head -2; truncate -s 100M sparse; stat -c '%s %b' sparse; cmp -n 100 big sparse && echo zero
date -u -d @86400 +%F; touch -d '2020-02-02 02:02:02 UTC' big; stat -c %y big
timeout 0.2 sleep 5; echo $?; nohup true; nice -n 5 nice; env -i A=b env; id -un; tty; nproc --all
echo hello | tee >(tr a-z A-Z >up) >/dev/null; sleep 0.2; cat up
mktemp -d ./XXXX | wc -c; shuf -i 1-10 | sort -n | tr '\n' ' '; numfmt --to=iec 1048576; factor 9999991; od -An -tx1 <<<abc
grep -rn y tree; awk 'BEGIN { for (i = 0; i < 3; i++) print i, i * i }'; sed -n '2,3p' t
install -m 640 t t2; stat -c %a t2; chmod u=rwx,go= t2; stat -c %a t2; chown 1:2 t2; stat -c '%u %g' t2
