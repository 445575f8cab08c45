// Runs docs/displays/micropython.py in MicroPython itself (its WebAssembly port: the unix port is in no registry) against a made-up
// socket that answers in pieces of odd sizes, as a network does.
//
//   npm install @micropython/micropython-webassembly-pyscript
//   node tests/display/micropython.mjs docs/displays/micropython.py FILE    # FILE: what `easeld render --profile esp32-240x240` wrote

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [script, file] = process.argv.slice(2);
const require = createRequire(path.join(process.cwd(), "package.json"));
const home = path.dirname(require.resolve("@micropython/micropython-webassembly-pyscript/package.json"));
const { loadMicroPython } = await import(path.join(home, "micropython.mjs"));

const said = [];
const mp = await loadMicroPython({ heapsize: 4 * 1024 * 1024, stdout: (line) => said.push(line), linebuffer: true });
mp.FS.writeFile("/display.py", fs.readFileSync(script));
mp.FS.writeFile("/rendition", fs.readFileSync(file));
mp.FS.writeFile("/socket.py", `
class socket:
    status, etag, cut, asked = 200, '"a1"', None, ""

    def __init__(self):
        body = open("/rendition", "rb").read()
        if socket.cut is not None:
            body = body[:socket.cut]
        if socket.status == 304:
            head = "HTTP/1.0 304 Not Modified\\r\\n\\r\\n"
            body = b""
        else:
            head = "HTTP/1.0 %d x\\r\\nETag: %s\\r\\nContent-Length: 115200\\r\\n\\r\\n" % (socket.status, socket.etag)
        self.rest, self.piece = head.encode() + body, 1

    def settimeout(self, seconds): pass
    def connect(self, address): assert address == ("192.168.1.20", 8088)
    def close(self): self.rest = None
    def write(self, data): socket.asked = data.decode()

    def readline(self):
        end = self.rest.find(b"\\n") + 1
        line, self.rest = self.rest[:end], self.rest[end:]
        return line

    def readinto(self, view):
        self.piece = self.piece * 7 % 311
        count = min(len(view), len(self.rest), self.piece)
        view[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count

def getaddrinfo(host, port):
    return [(2, 1, 0, "", (host, port))]
`);
mp.runPython(`
import sys
sys.path.append("/")
import socket, display

rows = []
etag = display.fetch(lambda y, row: rows.append((y, bytes(row))))
assert etag == '"a1"', etag
assert [y for y, _ in rows] == list(range(240))
assert b"".join(row for _, row in rows) == open("/rendition", "rb").read()
assert "If-None-Match" not in socket.socket.asked

socket.socket.status = 304
assert display.fetch(lambda y, row: rows.append(y), etag) == etag
assert len(rows) == 240, "nothing is drawn twice"
assert 'If-None-Match: "a1"' in socket.socket.asked, socket.socket.asked

for status, cut in ((404, None), (200, 70001)):
    socket.socket.status, socket.socket.cut = status, cut
    try:
        display.fetch(lambda y, row: None)
        assert False, "a bad answer is an error"
    except OSError as error:
        print("told:", error)
print("MicroPython", sys.version.split(";")[-1].strip(), "ok")
`);
console.log(said.join("\n"));
if (!said.join("").includes("ok")) process.exit(1);
