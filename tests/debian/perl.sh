# Perl: forks, pipes, signals, select, sockets of a pair.
perl -e 'pipe(R,W); if (my $p = fork) { close W; print while <R>; waitpid $p, 0; print "status ", $? >> 8, "\n" } else { close R; print W "from child\n"; exit 7 }'
perl -e '$SIG{ALRM} = sub { print "alarm\n"; exit }; alarm 1; sleep 10'
perl -e '$SIG{CHLD} = sub { print "child\n" }; unless (fork) { exit 0 } sleep 5; print "woken\n"'
perl -MSocket -MIO::Handle -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die; A->autoflush; print A "hi\n"; print scalar <B>'
perl -e 'my %h = map { $_ => $_ * 2 } 1..10000; my $s = 0; $s += $_ for values %h; print "$s\n"'
perl -e 'print "$0 $<\n"; print join(" ", (stat("/"))[2] & 0777 ? "mode" : "none"), "\n"; opendir D, "/proc/self/fd"; print scalar(grep /^\d/, readdir D) > 2 ? "fds\n" : "none\n"'
