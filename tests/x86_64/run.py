"""Runs a static program without an operating system in Bochs's CPU: run.py CPU.so PROGRAM

The program begins in 64-bit mode with AVX-512 enabled, its memory where it lies. It halts with a text in memory, which is printed: its
address in RSI, its bytes in RDX, and in RDI the status to exit with. CPU.so is cpu.c.
"""

import ctypes
import struct
import sys

ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)

import bochscpu
import bochscpu.cpu
import bochscpu.memory

PAGE = 4096
LARGE_PAGE = 1 << 21
# The program's memory with its stack at the end, then its page tables.
MEMORY = 16 << 20
STACK_BYTES = 1 << 20


def load(program):
    """The memory with a program's segments, and where it begins."""
    memory = bytearray(MEMORY)
    if program[:5] != b"\x7fELF\x02":
        sys.exit("not a 64-bit ELF file")
    entry, headers = struct.unpack_from("<QQ", program, 24)
    header_bytes, count = struct.unpack_from("<HH", program, 54)
    for header in range(headers, headers + header_bytes * count, header_bytes):
        kind, _, offset, address, _, in_file, in_memory = struct.unpack_from("<IIQQQQQ", program, header)
        if kind == 1:
            if address + in_memory > MEMORY - STACK_BYTES:
                sys.exit(f"a segment ends at {address + in_memory:#x}: make MEMORY larger")
            memory[address : address + in_file] = program[offset : offset + in_file]
    return memory, entry


def page_tables():
    """Every address is itself, in large pages."""
    tables = bytearray(3 * PAGE)
    present = 0b11
    struct.pack_into("<Q", tables, 0, MEMORY + PAGE | present)
    struct.pack_into("<Q", tables, PAGE, MEMORY + 2 * PAGE | present)
    for index in range(MEMORY // LARGE_PAGE):
        struct.pack_into("<Q", tables, 2 * PAGE + 8 * index, index * LARGE_PAGE | 1 << 7 | present)
    return tables


def segment(attributes):
    made = bochscpu.Segment()
    made.present, made.selector, made.base, made.limit, made.attr = True, 8, 0, 0xFFFFFFFF, attributes
    return made


def state_at(entry):
    state = bochscpu.State()
    bochscpu.cpu.set_long_mode(state)
    state.cr0 |= 1 << 1  # MP: with TS and EM clear, vector instructions do not trap.
    state.cr4 |= 1 << 9 | 1 << 10 | 1 << 18  # OSFXSR, OSXMMEXCPT, OSXSAVE
    state.xcr0 = 0b11100111  # x87, SSE, AVX, AVX-512
    state.cr3 = MEMORY
    state.rflags = 0b10
    # As if a call had pushed where to return to.
    state.rip, state.rsp = entry, MEMORY - 8
    state.cs = segment(0xA09B)
    for name in ("ds", "es", "ss", "fs", "gs"):
        setattr(state, name, segment(0xC093))
    return state


def main(path):
    with open(path, "rb") as file:
        memory, entry = load(file.read())
    memory += page_tables()
    for address in range(0, len(memory), PAGE):
        bochscpu.memory.page_insert(address, bochscpu.memory.allocate_host_page())
        bochscpu.memory.phy_write(address, list(memory[address : address + PAGE]))

    ended = []

    def halted(session, _):
        state = session.cpu.state
        text = bytes(bochscpu.memory.virt_read(MEMORY, state.rsi, state.rdx))
        ended.append((text.decode(), state.rdi))
        session.stop()

    def trapped(session, _, vector, error):
        ended.append((f"exception {vector} with {error:#x} at {session.cpu.rip:#x}\n", 1))
        session.stop()

    session = bochscpu.Session()
    session.missing_page_handler = lambda address: sys.exit(f"no memory at {address:#x}")
    session.cpu.state = state_at(entry)
    hook = bochscpu.Hook()
    hook.hlt = halted
    hook.exception = trapped
    session.run([hook])
    text, status = ended[0]
    print(text, end="", flush=True)
    sys.exit(status)


main(sys.argv[2])
