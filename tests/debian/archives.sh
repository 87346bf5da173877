# Archives and compressors, with owners, links, times, holes.
mkdir d; seq 1 5000 > d/numbers; ln -s numbers d/link; ln d/numbers d/hard; mkfifo d/fifo; truncate -s 1M d/hole; chown 3:4 d/hole
tar cf a.tar d; tar tvf a.tar --full-time | awk '{print $1, $2, $6, $7, $8}' | sed 's/[0-9:.]* *[0-9-]* *//;' | sort | head -8
mkdir x; tar xf a.tar -C x; diff <(ls -l d | awk '{print $1, $3, $4, $5, $9}') <(ls -l x/d | awk '{print $1, $3, $4, $5, $9}') && echo same
tar czf a.tgz d; gzip -t a.tgz && echo fine; zcat a.tgz | tar t | wc -l
rm d/hard; gzip -k d/numbers; zcat d/numbers.gz | sha256sum; tar --sparse -cf s.tar d/hole; stat -c %s s.tar
