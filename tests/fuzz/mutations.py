"""Breaking well-formed bytes in ways that parsers have stumbled over. Pure: chance is passed in."""

from __future__ import annotations

import random
import struct

from . import seeds

EXTREMES = (0, 1, 2, 3, 5, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_TAGS = (0x00080005, 0x00080052, 0x00100010, 0x00100020, 0x00400100, 0x00400002, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD)


def conversation(chance: random.Random, corpus: list[bytes]) -> bytes:
    """What a hostile scanner sends over one connection."""
    kind = chance.random()
    if kind < 0.4:
        return mutated(chance, chance.choice(corpus), corpus)
    if kind < 0.75:
        asked = mutated(chance, seeds.whole_identifier(), [seeds.whole_identifier()])
        return seeds.associate_request() + seeds.find_request(asked) + seeds.release_request()
    if kind < 0.9:
        field = chance.choice((0x0020, 0x0030, 0x0140, 0x0120, 0x0110, 0x0021, 0x8020, 0x0FFF, chance.randrange(65536)))
        order = mutated(chance, seeds.command(field, seeds.WORKLIST, with_data=chance.random() < 0.5), [b""])
        parts = [seeds.fragment(chance.choice((1, 3, 5, 0)), chance.randrange(4), order)]
        parts.append(seeds.fragment(3, chance.choice((0, 2)), seeds.whole_identifier()))
        return seeds.associate_request() + b"".join(parts) + seeds.release_request()
    return seeds.associate_request() + b"".join(
        seeds.pdu(chance.randrange(10), chance.randbytes(chance.randrange(64))) for _ in range(chance.randrange(1, 5))
    )


def mutated(chance: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Apply a few mutations."""
    broken = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(broken) + 1)
        match chance.randrange(8):
            case 0 if place < len(broken):
                broken[place] ^= 1 << chance.randrange(8)
            case 1:
                del broken[place:]
            case 2:
                del broken[place : place + chance.randrange(1, 16)]
            case 3:
                broken[place:place] = chance.randbytes(chance.randrange(1, 32))
            case 4:
                broken[place : place + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(EXTREMES))
            case 5:
                broken[place : place + 2] = struct.pack(chance.choice("<>") + "H", chance.choice(EXTREMES) & 0xFFFF)
            case 6:
                other = chance.choice(corpus)
                start = chance.randrange(len(other) + 1)
                broken[place:place] = other[start : start + chance.randrange(1, 200)]
            case _:
                tag = chance.choice(_TAGS)
                header = struct.pack("<HHI", tag >> 16, tag & 0xFFFF, chance.choice(EXTREMES))
                broken[place:place] = header * chance.choice((1, 1, 2, 100))
    return bytes(broken)
