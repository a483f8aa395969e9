"""Runs a program on an emulated processor with AVX-512, where this machine's has none.

The processor is Bochs's Cannon Lake, which has AVX-512 but no instructions for bf16; qemu stops at AVX2. The program is one
for Linux on x86-64 with one thread: where a thread cannot start, the harness of tests runs a test on its own. A second
of this machine takes it about a minute.

    python3 -m venv target/bochs-venv
    target/bochs-venv/bin/pip install bochscpu-python==0.4.0
    cargo test -p numformer-ops --lib --no-run       # prints the path of the tests
    target/bochs-venv/bin/python .ci/emulate.py target/debug/deps/numformer_ops-... cpu::product

The package is made for glibc 2.38 and later. With an older one, preload a library that defines `__isoc23_strtoull` and
`__isoc23_sscanf` as `strtoull` and `vsscanf` are.
"""

import ctypes
import errno
import mmap
import os
import struct
import sys
import time

import bochscpu
import bochscpu.cpu
import bochscpu.memory

PAGE = 4096

# Addresses of the program are those of the processor: page tables, the entry of system calls, the top of the stack, the
# program, its loader, its heap and what it maps.
TABLES, ENTRY, STACK, PROGRAM, LOADER, HEAP, MAPS, END = 0x1000, 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x28000000, 0x40000000, 3 << 30

memory = mmap.mmap(-1, END)


def put(at, data):
    memory[at : at + len(data)] = data


def words(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def text(at):
    return memory[at : memory.find(b"\0", at)]


def pages(length):
    return (length + PAGE - 1) & -PAGE


def load(path, base):
    """Copies the segments of an ELF file, and returns its entry, program headers, their size and number, and its loader."""
    with open(path, "rb") as file:
        data = file.read()
    (kind,) = struct.unpack_from("<H", data, 16)
    entry, offset = struct.unpack_from("<QQ", data, 24)
    size, count = struct.unpack_from("<HH", data, 54)
    base = base if kind == 3 else 0  # position-independent
    loader = None
    for i in range(count):
        kind, _, begin, address, _, length, _, _ = struct.unpack_from("<IIQQQQQQ", data, offset + i * size)
        if kind == 1:
            put(base + address, data[begin : begin + length])
        elif kind == 3:
            loader = data[begin : begin + length].rstrip(b"\0").decode()
    return base + entry, base + offset, size, count, loader


def start(arguments):
    """Loads the program, and returns where it begins and the top of its stack."""
    entry, headers, size, count, loader = load(arguments[0], PROGRAM)
    first = load(loader, LOADER)[0] if loader else entry
    top = STACK

    def string(value):
        nonlocal top
        top -= len(value) + 1
        put(top, value + b"\0")
        return top

    environment = [f"{key}={value}" for key, value in os.environ.items() if key != "LD_PRELOAD"]
    places = [[string(item.encode()) for item in items] for items in (arguments, environment)]
    random = string(os.urandom(16))
    # AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_ENTRY, AT_SECURE, AT_RANDOM
    auxiliary = [3, headers, 4, size, 5, count, 6, PAGE, 7, LOADER if loader else 0, 9, entry, 23, 0, 25, random, 0, 0]
    block = words(len(arguments), *places[0], 0, *places[1], 0, *auxiliary)
    top = (top - len(block)) & -16
    put(top, block)
    return first, top


class System:
    """The system calls of a program with one thread."""

    def __init__(self):
        self.brk, self.next, self.status = HEAP, MAPS, None

    def stat(self, at, found):
        times = [int(t) for s in (found.st_atime, found.st_mtime, found.st_ctime) for t in (s, 0)]
        head = (found.st_dev, found.st_ino, found.st_nlink, found.st_mode, found.st_uid, found.st_gid, 0, found.st_rdev)
        put(at, struct.pack("<QQQIIIIQQQQ6Q24x", *head, found.st_size, PAGE, (found.st_size + 511) // 512, *times))
        return 0

    def map(self, length):
        at, self.next = self.next, self.next + pages(length) + PAGE
        if self.next > END:
            raise OSError(errno.ENOMEM, "memory is full")
        return at

    def read(self, at, data):
        put(at, data)
        return len(data)

    def call(self, cpu, number, a, b, c, d, e, f):
        match number:
            case 0:  # read
                return self.read(b, os.read(a, c))
            case 1:  # write
                return os.write(a, memory[b : b + c])
            case 20:  # writev
                parts = [struct.unpack_from("<QQ", memory, b + 16 * i) for i in range(c)]
                return os.write(a, b"".join(memory[at : at + length] for at, length in parts))
            case 2:  # open
                return os.open(text(a), b, c & 0o777)
            case 257:  # openat
                return os.open(text(b), c, d & 0o777)
            case 3:  # close
                os.close(a)
                return 0
            case 5:  # fstat
                return self.stat(b, os.fstat(a))
            case 262:  # newfstatat
                return self.stat(c, os.stat(text(b)) if text(b) else os.fstat(a))
            case 8:  # lseek
                return os.lseek(a, b, c)
            case 17:  # pread64
                return self.read(b, os.pread(a, c, d))
            case 9:  # mmap
                fixed, file = d & 16, ctypes.c_int32(e & 0xFFFFFFFF).value
                at = a if fixed else self.map(b)
                put(at, bytes(pages(b)))
                if file >= 0:
                    put(at, os.pread(file, b, f))
                return at
            case 25:  # mremap
                at = self.map(c)
                put(at, memory[a : a + min(b, c)])
                return at
            case 12:  # brk
                self.brk = a or self.brk
                return self.brk
            case 158 if a == 0x1002:  # arch_prctl, ARCH_SET_FS
                segment = cpu.fs
                segment.base, segment.present = b, True
                cpu.fs = segment
                return 0
            case 228:  # clock_gettime
                put(b, words(*divmod(time.clock_gettime_ns(a), 10**9)))
                return 0
            case 318:  # getrandom
                return self.read(a, os.urandom(b))
            case 302:  # prlimit64
                if d:
                    put(d, words(STACK - ENTRY, (1 << 64) - 1))
                return 0
            case 204:  # sched_getaffinity
                return self.read(c, words(1))
            case 79:  # getcwd
                return self.read(a, os.getcwd().encode() + b"\0")
            case 39 | 186 | 218:  # getpid, gettid, set_tid_address
                return 1
            case 56 | 435:  # clone, clone3
                return -errno.EAGAIN
            case 60 | 231:  # exit, exit_group
                self.status = a & 0xFF
                return 0
            # poll, mprotect, munmap, signals, madvise, yield, futex, set_robust_list
            case 7 | 10 | 11 | 13 | 14 | 28 | 131 | 24 | 202 | 273:
                return 0
            case 334 | 332 | 16 | 157 | 158 | 21 | 89:  # rseq, statx, ioctl, prctl, access, readlink: programs do without
                return -errno.ENOSYS
        print(f"emulate.py: system call {number} is missing", file=sys.stderr)
        return -errno.ENOSYS

    def enter(self, session, *_):
        cpu = session.cpu
        try:
            found = self.call(cpu, cpu.rax, cpu.rdi, cpu.rsi, cpu.rdx, cpu.r10, cpu.r8, cpu.r9)
        except OSError as error:
            found = -error.errno
        cpu.rax = found & (1 << 64) - 1
        if self.status is not None:
            session.stop()

    def fault(self, session, _cpu, vector, code):
        cpu = session.cpu
        print(f"emulate.py: exception {vector} ({code:#x}) at {cpu.rip:#x}, address {cpu.cr2:#x}", file=sys.stderr)
        self.status = 1
        session.stop()


def segment(attributes, selector):
    made = bochscpu.Segment()
    made.base, made.limit, made.selector, made.present, made.attr = 0, 0xFFFFFFFF, selector, True, attributes
    return made


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    # All memory is mapped to itself, by pages of 2 MiB, and the program runs without a separate kernel.
    put(TABLES, words(TABLES + 0x1000 | 7))
    for gigabyte in range(END >> 30):
        table = TABLES + 0x2000 + PAGE * gigabyte
        put(TABLES + 0x1000 + 8 * gigabyte, words(table | 7))
        put(table, words(*[(gigabyte << 30) + (i << 21) | 0x87 for i in range(512)]))
    host = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in range(0, END, PAGE):
        bochscpu.memory.page_insert(page, host + page)
    # A system call comes here: clflush [rip], which calls `enter`, and jmp rcx.
    put(ENTRY, bytes.fromhex("0fae3d00000000ffe1"))

    state = bochscpu.State()
    bochscpu.cpu.set_long_mode(state)
    state.cr3 = TABLES
    state.cr0 |= 2  # MP
    state.cr4 |= 0x40600  # OSFXSR, OSXMMEXCPT, OSXSAVE
    state.xcr0 = 0xE7  # x87, SSE, AVX, AVX-512
    state.efer |= 1  # SCE
    state.star, state.lstar, state.sfmask = 8 << 32, ENTRY, 0
    state.mxcsr, state.mxcsr_mask, state.fpcw, state.fptw, state.rflags = 0x1F80, 0xFFFF, 0x37F, 0xFFFF, 2
    state.cs = segment(0xA09B, 8)
    for name in ("ds", "es", "ss", "fs", "gs"):
        setattr(state, name, segment(0xC093, 16))
    state.rip, state.rsp = start(sys.argv[1:])

    system, session, hook = System(), bochscpu.Session(), bochscpu.Hook()
    session.missing_page_handler = lambda address: sys.exit(f"emulate.py: no memory at {address:#x}")
    session.cpu.state = state
    hook.clflush, hook.exception = system.enter, system.fault
    session.run([hook])
    # The bindings report leaks of their own when Python ends.
    os._exit(1 if system.status is None else system.status)


main()
