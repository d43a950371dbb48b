# Python: an environment, a package that pip builds and installs, processes, threads, asynchronous servers, SQLite, compression.
set -eu
mkdir -p /tmp/python/small/small && cd /tmp/python
python3 -m venv --system-site-packages venv
. venv/bin/activate
cat > small/setup.py <<'END'
from setuptools import Extension, setup
setup(name="small", version="1.0", packages=["small"], ext_modules=[Extension("small.fast", ["fast.c"])], entry_points={"console_scripts": ["small=small:main"]})
END
echo 'def main(): from . import fast; print("fast", fast.twice(21))' > small/small/__init__.py
cat > small/fast.c <<'END'
#include <Python.h>
static PyObject *twice(PyObject *self, PyObject *args) { long n; return PyArg_ParseTuple(args, "l", &n) ? PyLong_FromLong(2 * n) : NULL; }
static PyMethodDef methods[] = {{"twice", twice, METH_VARARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", 0, -1, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
END
pip install --quiet --no-index --no-build-isolation ./small 2> /tmp/python/log || { cat /tmp/python/log >&2; exit 1; }
small
pip list 2> /dev/null | grep -i '^small'
cat > main.py <<'END'
import asyncio, concurrent.futures, ctypes, hashlib, lzma, multiprocessing, os, queue, signal, sqlite3, subprocess, tempfile, threading, zlib
def square(n): return n * n
async def serve():
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper()); await writer.drain(); writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async def ask(n):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"line %d\n" % n); line = await reader.read(); writer.close(); return line
    lines = await asyncio.gather(*[ask(n) for n in range(50)])
    child = await asyncio.create_subprocess_exec("sh", "-c", "read x; echo got $x; exit 4", stdin=-1, stdout=-1)
    out, _ = await child.communicate(b"input\n")
    return len(b"".join(lines)), out, child.returncode
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(4) as pool: print(method, sum(pool.map(square, range(1000))))
    with concurrent.futures.ThreadPoolExecutor(8) as pool: print("threads", sum(pool.map(square, range(1000))))
    print("asyncio", *asyncio.run(serve()))
    with tempfile.TemporaryDirectory() as place:
        base = sqlite3.connect(place + "/base"); base.execute("pragma journal_mode=wal"); base.execute("create table t(a, b)")
        with base: base.executemany("insert into t values(?, ?)", ((n, str(n)) for n in range(10000)))
        print("sqlite", base.execute("select sum(a), max(length(b)) from t").fetchone(), base.execute("pragma integrity_check").fetchone())
    shared = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20) if hasattr(multiprocessing, "shared_memory") else None
    print("lzma", hashlib.sha256(lzma.compress(b"python" * 100000)).hexdigest()[:16], zlib.crc32(b"x" * 1000000))
    signal.signal(signal.SIGALRM, lambda *_: print("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()
    print("ctypes", ctypes.CDLL(None).abs(-5), subprocess.run(["uname", "-s"], capture_output=True, text=True).stdout.strip())
    print("cpus", len(os.sched_getaffinity(0)) == os.cpu_count())
END
python3 main.py
