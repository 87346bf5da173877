# Python's own use of the system: processes, threads, files, memory maps, signals.
python3 - <<'P'
import os, sys, subprocess, threading, mmap, signal, tempfile, shutil, time, resource, select, fcntl, pathlib, multiprocessing, ctypes
print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True))
r = []
ts = [threading.Thread(target=lambda i=i: r.append(i)) for i in range(50)]
[t.start() for t in ts]; [t.join() for t in ts]; print(sorted(r) == list(range(50)))
with multiprocessing.Pool(4) as p: print(p.map(abs, range(-5, 5)))
d = tempfile.mkdtemp(); f = pathlib.Path(d, "f"); f.write_bytes(bytes(range(256)) * 64)
with open(f, "r+b") as h:
    m = mmap.mmap(h.fileno(), 0); m[0:4] = b"mmap"; m.flush(); m.close()
print(f.read_bytes()[:6]); print(os.stat(f).st_size, oct(os.stat(f).st_mode))
signal.signal(signal.SIGUSR1, lambda s, _: print("signal", s)); os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigtimedwait([signal.SIGUSR2], 0.01))
print(resource.getrlimit(resource.RLIMIT_CORE)[0] >= -1, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0)
a, b = os.pipe(); os.write(b, b"x"); print(select.select([a], [], [], 1)[0] == [a])
e = select.epoll(); e.register(a, select.EPOLLIN); print(e.poll(1)[0][1])
fcntl.flock(a if False else open(f), fcntl.LOCK_EX); print("locked")
shutil.copytree(d, d + "2"); print(sorted(os.listdir(d + "2"))); shutil.rmtree(d); shutil.rmtree(d + "2")
print(os.sched_getaffinity(0) != set(), os.cpu_count() >= 1, time.monotonic() > 0)
fd = os.memfd_create("m"); os.write(fd, b"abc"); print(os.pread(fd, 3, 0)); print(os.fstat(fd).st_nlink)
try: os.open("/nonexistent", 0)
except OSError as x: print(x)
pid = os.posix_spawn("/bin/true", ["true"], {}); print(os.waitpid(pid, 0)[1])
print(os.getxattr.__name__, os.listxattr("/tmp"))
P
