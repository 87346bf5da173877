# The dynamic linker: libraries, preloads, thread-local storage, position-independent programs.
ldd /bin/ls | sed 's/ (0x[0-9a-f]*)//' | sort; LD_DEBUG=statistics /bin/true 2>&1 | grep -c relocations; LD_PRELOAD=/nonexistent.so true 2>&1 | head -1
LD_BIND_NOW=1 /bin/true && echo now; /lib64/ld-linux-x86-64.so.2 /bin/echo through the linker; python3 -c 'import ctypes; print(ctypes.CDLL("libc.so.6").getpid() > 0)'
python3 -c 'import ctypes, math; m = ctypes.CDLL("libm.so.6"); m.cos.restype = ctypes.c_double; print(m.cos(ctypes.c_double(0)))'
for i in 1 2 3 4 5 6 7 8; do /bin/echo $i; done | tr '\n' ' '; echo; bash -c 'exec -a name cat /proc/self/comm'; getconf PAGESIZE; getconf _NPROCESSORS_ONLN >/dev/null && echo cpus; getent passwd root
