"""Attacks, as scripts whose last expression is true where they got through.

`{places}` are filled in from a Target. Those of CONTROLLED get through without a jail, which a test proves: an attack
that is broken would be no test.
"""

import os

MARK = f"agentsite-escaped-{os.getpid()}"  # of this process: another one tests beside it
PYTHON = {
    # reading
    "passwd": "open('/etc/passwd').read()",
    "settings": "open({settings!r}).read()",
    "secret file": "open({secret!r}).read()",
    "another's workspace": "import os\nos.listdir({folder!r})",
    "planted environment": "import os\n[v for v in os.environ.values() if 'CANARY' in v]",
    "the server's environment": "open('/proc/{pid}/environ').read()",
    "the environment of PID 1": "open('/proc/1/environ', 'rb').read()",
    "own memory by a file": "open('/proc/self/mem', 'r+b') is not None",
    "the server's memory": "open('/proc/{pid}/mem', 'r+b') is not None",
    "a link to a secret": "import os\nos.symlink({secret!r}, 'link')\nopen('link').read()",
    "up and up": "open('../' * 20 + {secret!r}[1:]).read()",
    "a descriptor left open": (
        "import os\nfound = []\nfor fd in range(4, 200):\n  try: found.append(os.readlink(f'/proc/self/fd/{{fd}}'))\n"
        "  except OSError: pass\n[f for f in found if 'CANARY' in f]"
    ),
    # writing
    "write beside the secret": "open({target!r}, 'w').write('x')",
    "write /": f"open('/{MARK}', 'w').write('x')",
    "write /dev/shm": f"open('/dev/shm/{MARK}', 'w').write('x')",
    "write /usr": f"open('/usr/{MARK}', 'w').write('x')",
    "write /var/tmp": f"open('/var/tmp/{MARK}', 'w').write('x')",
    "write the runner": "import runner\nopen(runner.__file__, 'a').write('#')",
    "make a device": "import os, stat\nos.mknod('device', 0o600 | stat.S_IFBLK, os.makedev(8, 0)) is None",
    "fill with one file": (
        "written = 0\nwith open('big', 'wb', 0) as file:\n  for _ in range(64): written += file.write(bytes(1 << 20))\n"
        "import os\nos.remove('big')\nwritten > 17 << 20"
    ),
    # the network
    "TCP to the server": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 5) is not None",
    "TCP to the cloud's metadata": "import socket\nsocket.create_connection(('169.254.169.254', 80), 2) is not None",
    "UDP": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "a socket of AF_UNIX": "import socket\nsocket.socket(socket.AF_UNIX) is not None",
    "netlink": "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) is not None",
    "fetch": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/', timeout=5) is not None",
    "a name": "import socket\nsocket.getaddrinfo('localhost', 80)",
    # processes
    "subprocess": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', '0']).returncode == 0",
    "fork": "import os\npid = os.fork()\npid == 0 and os._exit(0)\npid > 0",
    "execv": "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'print(\"escaped\")'])",
    "execute memory": (
        "import ctypes, os, sys\nfd = ctypes.CDLL(None).memfd_create(b'x', 0)\n"
        "os.write(fd, open(sys.executable, 'rb').read())\n"
        "os.execv(f'/proc/self/fd/{{fd}}', ['python', '-c', 'print(\"escaped\")'])"
    ),
    "execute an own file": (
        "import os, shutil, sys\nshutil.copy(sys.executable, 'own')\nos.execv('./own', ['own', '-c', 'print(\"escaped\")'])"
    ),
    "signal everybody": "import os\nos.kill(-1, 0) is None",
    "signal the server": "import os\nos.kill({pid}, 0) is None",
    "signal a thread of the server": "import ctypes\nctypes.CDLL(None).syscall({tgkill}, {pid}, {pid}, 0) == 0",
    "limits of the server": "import resource\nresource.prlimit({pid}, resource.RLIMIT_NOFILE)",
    "own a signal": "import fcntl\nfcntl.fcntl(0, fcntl.F_SETOWN, {pid}) is not None",
    "raise a limit": "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (100000, 100000)) is None",
    "become root": "import os\nos.setuid(0) is None",
    "be nice": "import os\nos.nice(-5) < 0",
    # the language itself
    "subclasses": (
        "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
        ".__init__.__globals__['system']('exit 7') == 7 << 8"
    ),
    "pickle": "import pickle\npickle.loads(b\"cos\\nsystem\\n(S'exit 7'\\ntR.\") == 7 << 8",
    "frames": "import sys\nsys._getframe(0).f_back.f_globals['os'].system('exit 7') == 7 << 8",
}
CALLS = {
    "ptrace": "ptrace, 16, {pid}, 0, 0",
    "mount": "mount, b'x', b'/tmp', b'tmpfs', 0, 0",
    "unshare": "unshare, 0x10000000",
    "setns": "setns, 0, 0",
    "bpf": "bpf, 0, b'\\0' * 128, 128",
    "process_vm_readv": "process_vm_readv, {pid}, 0, 0, 0, 0, 0",
    "io_uring": "io_uring_setup, 8, b'\\0' * 256",
    "socket": "socket, 2, 1, 0",
    "vfork": "fork",
    "chroot": "chroot, b'/'",
}
NUMBERED = {  # calls that syscalls.txt does not list, by number on x86_64 and aarch64
    "keyctl": ((250, 219), "0, -3, 1"),
    "add_key": ((248, 217), "b'user', b'x', b'x', 1, -3"),
    "clone3": ((435, 435), "b'\\0' * 88, 88"),
    "memfd_create": ((319, 279), "b'x', 0"),
    "userfaultfd": ((323, 282), "1"),
    "perf_event_open": ((298, 241), "b'\\0' * 128, 0, -1, -1, 0"),
    "open_by_handle_at": ((304, 265), "0, 0, 0"),
    "pidfd_open": ((434, 434), "{pid}, 0"),
    "pidfd_getfd": ((438, 438), "0, 0, 0"),
    "mount by open_tree": ((428, 428), "-100, b'/', 1"),
    "kexec_load": ((246, 104), "0, 0, 0, 0"),
}
THREADS = """
import threading
stop, count = threading.Event(), 0
threading.stack_size(65536)
try:
    while count < 1000:
        threading.Thread(target=stop.wait, daemon=True).start()
        count += 1
except RuntimeError:
    pass
stop.set()
count > 100
"""
PYTHON["threads"] = THREADS

JAVASCRIPT = {
    "passwd": "Deno.readTextFileSync('/etc/passwd')",
    "settings": "Deno.readTextFileSync({settings!r})",
    "secret file": "Deno.readTextFileSync({secret!r})",
    "another's workspace": "[...Deno.readDirSync({folder!r})].length",
    "secret file as a module": "export default (await import('file://' + {secret!r}, {{ with: {{ type: 'json' }} }})).default",
    "planted environment": "Object.values(Deno.env.toObject()).filter((value) => value.includes('CANARY')).length",
    "node's environment": "export default Object.values(process.env).filter((value) => value.includes('CANARY')).length",
    "the server's environment": "Deno.readTextFileSync('/proc/{pid}/environ')",
    "own memory by a file": "Deno.openSync('/proc/self/mem', {{ write: true, read: true }}) !== null",
    "a link to a secret": "Deno.symlinkSync({secret!r}, 'link'); Deno.readTextFileSync('link')",
    "a link to a secret by node": (
        "import fs from 'node:fs'; fs.symlinkSync({secret!r}, 'link'); export default fs.readFileSync('link', 'utf8')"
    ),
    "a hard link": "Deno.linkSync({secret!r}, 'link'); Deno.readTextFileSync('link')",
    "up and up": "Deno.readTextFileSync('../'.repeat(20) + {secret!r}.slice(1))",
    "write beside the secret": "Deno.writeTextFileSync({target!r}, 'x') === undefined",
    "write /": f"Deno.writeTextFileSync('/{MARK}', 'x') === undefined",
    "write /dev/shm": f"Deno.writeTextFileSync('/dev/shm/{MARK}', 'x') === undefined",
    "fill with one file": (
        "const file = Deno.openSync('big', {{ write: true, create: true }}); let written = 0;"
        "for (let i = 0; i < 64; i++) written += file.writeSync(new Uint8Array(1 << 20)); Deno.removeSync('big'); written > 17 << 20"
    ),
    "TCP to the server": "export default (await Deno.connect({{ hostname: '127.0.0.1', port: {port} }})) !== null",
    "TCP by node": (
        "import net from 'node:net'; export default await new Promise((done, fail) => "
        "net.connect({port}, '127.0.0.1', () => done(1)).on('error', fail))"
    ),
    "listen": "Deno.listen({{ port: 0 }}) !== null",
    "fetch": "export default (await fetch('http://127.0.0.1:{port}/')) !== null",
    "fetch of a file": "export default (await (await fetch('file://' + {secret!r})).text())",
    "a remote import": "export default (await import('http://127.0.0.1:{port}/module.js')) !== null",
    "an npm import": "export default (await import('npm:is-odd@3.0.1')) !== null",
    "a websocket": (
        "export default await new Promise((done, fail) => {{ const s = new WebSocket('ws://127.0.0.1:{port}/'); "
        "s.onopen = () => done(1); s.onerror = () => fail(new Error('refused')) }})"
    ),
    "a name": "export default await Deno.resolveDns('localhost', 'A')",
    "a command": "new Deno.Command(Deno.execPath(), {{ args: ['--version'] }}).outputSync().success",
    "a command by node": (
        "import {{ execFileSync }} from 'node:child_process'; export default execFileSync('/bin/true') !== null"
    ),
    "foreign functions": "Deno.dlopen('libc.so.6', {{ getpid: {{ parameters: [], result: 'i32' }} }}).symbols.getpid()",
    "who it runs as": "Deno.uid() >= 0 && Deno.hostname().length",
    "rights asked for": "Deno.permissions.requestSync({{ name: 'read' }}).state === 'granted'",
    "a worker with rights": (
        "const source = 'try {{ Deno.readTextFileSync(\"/etc/passwd\"); postMessage(1) }} catch {{ postMessage(0) }}';"
        "export default await new Promise((done, fail) => {{ const worker = new Worker('data:text/javascript,' + "
        "encodeURIComponent(source), {{ type: 'module' }}); "
        "worker.onmessage = (event) => done(event.data); worker.onerror = (event) => {{ event.preventDefault(); done(0) }} }})"
    ),
    "signal everybody": "Deno.kill(-1, 'SIGURG') === undefined",
    "constructor.constructor": "[].constructor.constructor('return Deno')().readTextFileSync('/etc/passwd')",
    "prototype pollution": (
        "Object.prototype.read = true; Object.prototype.permissions = 'inherit'; Object.prototype.state = 'granted';"
        "Deno.readTextFileSync('/etc/passwd')"
    ),
    "10 GB of buffers": "const all = []; for (let i = 0; i < 100; i++) all.push(new Uint8Array(1e8).fill(1)); all.length",
    "WebAssembly memory": (
        "const memory = new WebAssembly.Memory({{ initial: 1, maximum: 65536 }}); memory.grow(16384);"
        "new Uint8Array(memory.buffer).fill(1); memory.buffer.byteLength"
    ),
}
# What gets through without a jail, as root: of the attacks that do no harm there.
CONTROLLED = {
    "python": [
        "passwd", "settings", "secret file", "another's workspace", "planted environment", "the server's environment",
        "own memory by a file", "the server's memory", "a link to a secret", "up and up", "write beside the secret",
        "write /dev/shm", "fill with one file", "TCP to the server", "UDP", "a socket of AF_UNIX", "netlink", "a name",
        "subprocess", "fork", "signal the server", "signal a thread of the server", "limits of the server", "subclasses",
        "pickle", "threads",
    ],
    "javascript": [
        "passwd", "settings", "secret file", "another's workspace", "planted environment", "node's environment",
        "the server's environment", "a link to a secret", "a link to a secret by node", "up and up",
        "write beside the secret", "write /dev/shm", "fill with one file", "TCP to the server", "TCP by node", "listen",
        "a command", "a command by node", "foreign functions", "who it runs as", "a worker with rights",
        "constructor.constructor", "prototype pollution", "WebAssembly memory",
    ],
}  # fmt: skip
