# Python's event loop: epoll, socket pairs, child watchers, UNIX servers.
python3 - <<'P'
import asyncio, os
async def main():
    p = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    print(await p.communicate(b"through cat"))
    print(await asyncio.gather(*(asyncio.sleep(0.01, i) for i in range(5))))
    async def serve(r, w):
        w.write((await r.readline()).upper()); await w.drain(); w.close()
    s = await asyncio.start_unix_server(serve, "sock")
    r, w = await asyncio.open_unix_connection("sock"); w.write(b"hello\n"); print(await r.read()); s.close()
    try: await asyncio.wait_for(asyncio.sleep(10), 0.05)
    except asyncio.TimeoutError: print("timeout")
asyncio.run(main())
P
