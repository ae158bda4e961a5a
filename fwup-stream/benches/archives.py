"""Makes the archives of `compare` in the working directory, the same every time."""

import hashlib
import os
import shutil
import struct
import subprocess
import zlib

MIB = 1 << 20


def run(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True).stdout


def entry(out, name, data, size=None, level=9):
    """One ZIP entry with a descriptor, deflated; `size` is what the header says of it."""
    machine = zlib.compressobj(level, zlib.DEFLATED, -15, 8)
    packed = machine.compress(data) + machine.flush()
    size = len(data) if size is None else size
    name = name.encode()
    out.write(struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 8, 8, 0, 0x21, 0, 0, size, len(name), 0) + name)
    out.write(packed)
    out.write(struct.pack("<4sIII", b"PK\7\x08", zlib.crc32(data), len(packed), len(data)))


def archive(path, manifest, resources, key=None, level=9):
    with open(path, "wb") as out:
        manifest = manifest.encode()
        if key:
            open("meta.conf", "wb").write(manifest)
            entry(out, "meta.conf.ed25519", run(f"openssl pkeyutl -sign -inkey {key} -rawin -in meta.conf"))
        entry(out, "meta.conf", manifest)
        for name, data in resources:
            entry(out, "data/" + name, data, level=level)
        out.write(b"PK\1\2" + bytes(42) + b"PK\5\6" + bytes(18))


def resource(name, data):
    digest = hashlib.blake2b(data, digest_size=32).hexdigest()
    return f'file-resource "{name}" {{\nlength={len(data)}\nblake2b-256={digest}\n}}\n'


def task(name, body):
    return f'task "{name}" {{\n{body}}}\n'


def on_resource(name, calls, more=""):
    return f'on-resource "{name}" {{\n{more}funlist={{{calls}}}\n}}\n'


def noise(length, seed):
    return hashlib.shake_128(str(seed).encode()).digest(length)


# A fixed private key in PKCS #8 form, and its public key as fwup keeps it.
open("k.der", "wb").write(bytes.fromhex("302e020100300506032b657004220420") + bytes([7] * 32))
run("openssl pkey -inform DER -in k.der -out k.pem")
open("k.pub", "wb").write(run("openssl pkey -in k.pem -pubout -outform DER")[-32:])

# (a) what no compressor can shrink.
incompressible = run(
    "openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 00000000000000000000000000000000"
    f" -in /dev/zero 2>/dev/null | head -c {256 * MIB}"
)
manifest = resource("data", incompressible) + task("complete", on_resource("data", "2,raw_write,2048"))
archive("a.fw", manifest, [("data", incompressible)], "k.pem")
del incompressible

# (b) what a root file system is made of: programs, libraries and texts of this machine.
rootfs = run(f"tar -C / --sort=name --mtime=@0 -cf - usr/lib usr/bin usr/share 2>/dev/null | head -c {256 * MIB}")
manifest = resource("data", rootfs) + task("complete", on_resource("data", "2,raw_write,2048"))
archive("b.fw", manifest, [("data", rootfs)], "k.pem", level=6)

# (c) a delta: a twentieth rewritten, a piece removed, a piece added.
if shutil.which("xdelta3"):
    source = rootfs[: 64 * MIB]
    target = bytearray(source)
    for number in range(160):
        at = (number * 419430 + 12345) % (len(target) - 40000)
        target[at : at + 20000] = noise(20000, number)
    del target[10_000_000:10_003_333]
    target[20_000_000:20_000_000] = noise(5000, "x")
    target = bytes(target[: 64 * MIB].ljust(64 * MIB, b"\0"))
    for path, data in (("source", source), ("target", target), ("base.img", bytes(MIB) + source)):
        open(path, "wb").write(data)
    run("xdelta3 -e -f -A -S none -s source target delta")
    where = "delta-source-raw-offset=2048\ndelta-source-raw-count=131072\n"
    manifest = resource("data", target) + task("upgrade", on_resource("data", "2,raw_write,200000", where))
    archive("c.fw", manifest, [("data", open("delta", "rb").read())])
    for path in ("source", "target", "delta"):
        os.remove(path)

# (d) 2,000 copies of a file, half of them, and 2,000 more in a folder of 8,000; a manifest has no room for more at once.
# (e) 290 files of their own.
content = bytes(range(256)) * 16
mkfs = "on-init {\nfunlist={3,fat_mkfs,0,140000}\n}\n"


def copies(path, first, end, before):
    calls = ",".join(f"4,fat_cp,0,a,{number}" for number in range(first, end))
    body = before + on_resource("a", "3,fat_write,0,a") + f"on-finish {{\nfunlist={{{calls}}}\n}}\n"
    archive(path, resource("a", content) + task("complete", body), [("a", content)])


copies("d1.fw", 0, 1000, mkfs)
copies("d.fw", 0, 2000, mkfs)
for part in range(1, 5):
    copies(f"d{part * 2000}.fw", part * 2000, part * 2000 + 2000, "")
files = [(f"r{number}", noise(4096, number)) for number in range(290)]
body = mkfs + "".join(on_resource(name, f"3,fat_write,0,{name}") for name, _ in files)
archive("e.fw", "".join(resource(*file) for file in files) + task("complete", body), files)
