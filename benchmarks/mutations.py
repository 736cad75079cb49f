"""Change files so that they are damaged in the places where it matters: structure first, bytes second.

Bytes and a generator in, bytes out. What a file is for, and who reads it, is not known here. Each mutation knows its
format well enough to keep the rest of it whole (lengths, checksums, compression), so that a reader gets beyond its
first check.
"""

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31,
           2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1, -1, -2, -128, -32768, -(2**31))  # fmt: skip
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-38, 1e30, 3.4e38, float("nan"), float("inf"), float("-inf"))
WORDS = (
    "", "0", "-1", "1", "nan", "NaN", "inf", "-inf", "1e999", "1e-999", "none", "null", "true", "LIST", "LOCAL", "%03d",
    "../x", "..", "/etc/passwd", "C:\\x", "file:///etc/passwd", "http://x/y", "|ls", "a" * 300, "\x1b[31m", "\x00",
    "=1+1", "é", "e\u0301", "\ud83d\ude00", "\u202e", "99999999999999999999", "1" * 5000, "1,2", "(1,0,0)", "[]", "{}",
    '"', "'", ";", "\r", "\t",
)  # fmt: skip
"""What takes the place of a word of a text."""

MOST_BYTES = 1 << 16
"""Larger files than this only take longer."""


def any_of(*mutations: Mutation, bytewise: float = 0.25) -> Mutation:
    """One to four of these, one after the other; one in four times bytes are changed without a thought."""

    def mutate(content: bytes, random: Random) -> bytes:
        for _ in range(random.choice((1, 1, 2, 4))):
            change = random.choice(mutations) if mutations and random.random() >= bytewise else bytes_of
            try:
                content = change(content, random)
            except (
                ValueError,
                LookupError,
                OverflowError,
                struct.error,
                zlib.error,
                EOFError,
                OSError,
                RuntimeError,
                zipfile.BadZipFile,
            ):
                content = bytes_of(content, random)  # no longer a file of its kind
        return content[:MOST_BYTES]

    return mutate


def bytes_of(content: bytes, random: Random) -> bytes:
    """Flip, overwrite, insert, remove, repeat or cut bytes."""
    if not content:
        return random.randbytes(random.randint(1, 64))
    found = bytearray(content)
    place = random.randrange(len(found))
    length = min(random.choice((1, 2, 4, 8, 64, 512)), len(found) - place)
    match random.randrange(7):
        case 0:
            found[place] ^= 1 << random.randrange(8)
        case 1:
            found[place] = random.choice((0, 1, 127, 128, 255))
        case 2:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(NUMBERS) % 2 ** (8 * size)
            found[place : place + size] = number.to_bytes(size, random.choice(("little", "big")))
        case 3:
            found[place:place] = random.randbytes(length)
        case 4:
            del found[place : place + length]
        case 5:
            found[place:place] = found[place : place + length] * random.randint(1, 8)
        case 6:
            del found[place:]
    return bytes(found)


def fields(layout: Sequence[tuple[int, str]]) -> Mutation:
    """Overwrite one of the numbers at these places, given with their struct formats."""

    def mutate(content: bytes, random: Random) -> bytes:
        place, kind = random.choice(layout)
        code = kind[-1]
        if code in "fd":
            value: Any = random.choice(REALS)
            packed = struct.pack(kind, value if abs(value) < 3.4e38 or code == "d" or value != value else value * 0.99)
        else:
            size = struct.calcsize(kind)
            packed = (random.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "big" if kind[0] == ">" else "little")
        return content[:place] + packed + content[place + len(packed) :]

    return mutate


def gzipped(inner: Mutation) -> Mutation:
    """Change what is inside of a gzip file, which stays whole."""

    def mutate(content: bytes, random: Random) -> bytes:
        whole = zlib.decompressobj(wbits=31).decompress(content, MOST_BYTES * 8)
        return gzip.compress(inner(whole, random), compresslevel=random.choice((1, 9)), mtime=0)

    return mutate


def zipped(inner: Mapping[str, Mutation]) -> Mutation:
    """Change one file inside of a zip archive, by what its name ends with; the archive stays whole."""

    def mutate(content: bytes, random: Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        name = random.choice(sorted(files))
        files[name] = inner[name.rpartition(".")[2]](files[name], random)
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for kept, data in files.items():
                archive.writestr(zipfile.ZipInfo(kept), data)
        return changed.getvalue()

    return mutate


NIFTI = fields(
    [(40 + 2 * i, "<h") for i in range(8)]
    + [(70, "<h"), (72, "<h"), (108, "<f"), (112, "<f"), (116, "<f"), (123, "<B"), (252, "<h"), (254, "<h")]
    + [(76 + 4 * i, "<f") for i in range(8)]
    + [(256 + 4 * i, "<f") for i in range(6)]
    + [(280 + 4 * i, "<f") for i in range(12)]
    + [(0, "<i"), (344, "<i"), (348, "<i"), (352, "<i"), (356, "<i")]
)
"""Sizes, type, bits, offset, scale, unit, codes, spacing, quaternion, affine, magic, and what an extension says."""

BMP = fields(
    [(2, "<I"), (10, "<I"), (14, "<I"), (18, "<i"), (22, "<i"), (26, "<H"), (28, "<H"), (30, "<I"), (46, "<I")]
)


def png(content: bytes, random: Random) -> bytes:
    """Change, repeat, remove, move or add a chunk, with a right checksum; or the pixels inside of the compression."""
    chunks, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    which = random.randrange(len(chunks))
    kind, data = chunks[which]
    match random.randrange(7):
        case 0:
            header = bytearray(chunks[0][1])
            at = random.randrange(13)
            header[at] = random.choice((0, 1, 2, 3, 4, 6, 8, 16, 127, 128, 255))
            chunks[0] = (chunks[0][0], bytes(header))
        case 1:
            chunks[which] = (kind, bytes_of(data, random))
        case 2:
            chunks.insert(random.randrange(len(chunks) + 1), chunks[which])
        case 3:
            del chunks[which]
        case 4:
            bomb = zlib.compress(bytes(random.choice((100, 10_000_000))))
            added = random.choice(
                [
                    (b"zTXt", b"k\0\0" + bomb),
                    (b"iTXt", b"k\0\1\0\0\0" + bomb),
                    (b"iCCP", b"p\0\0" + bomb),
                    (b"PLTE", random.randbytes(random.choice((3, 4, 768, 1024)))),
                    (b"tRNS", random.randbytes(random.choice((1, 2, 6, 256)))),
                    (b"acTL", struct.pack(">II", random.choice((0, 1, 2, 2**31)), 0)),
                    (b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\3\0\0\0\1\0" + random.randbytes(4)),
                    (b"IDAT", b""),
                    (b"abcd", random.randbytes(9)),
                ]
            )
            chunks.insert(random.randrange(len(chunks) + 1), added)
        case 5:
            random.shuffle(chunks)
        case 6:
            pixels = b"".join(data for name, data in chunks if name == b"IDAT")
            raw = zlib.decompressobj().decompress(pixels, MOST_BYTES * 8)
            changed = (b"IDAT", zlib.compress(bytes_of(raw, random)))
            chunks = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
            chunks.insert(max(len(chunks) - 1, 0), changed)
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return content[:8] + b"".join(parts)


def jpeg(content: bytes, random: Random) -> bytes:
    """Change the size or another byte of a segment, or repeat a segment."""
    places, place = [], 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        places.append((place, length + 2))
        place += length + 2
    at, length = random.choice(places)
    if random.random() < 0.3:
        return content[:at] + content[at : at + length] * random.randint(2, 20) + content[at + length :]
    found = bytearray(content)
    found[min(at + random.randrange(1, max(length, 2)), len(found) - 1)] = random.choice(
        (0, 1, 3, 4, 127, 192, 194, 255)
    )
    return bytes(found)


TAGS = (
    256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 282, 284, 297, 305, 306, 317, 320, 322, 323, 324, 325, 330, 338,
    339, 347, 530, 700, 32997, 32998, 33628, 33629, 34118, 34264, 34412, 34665, 34735, 37706, 50838, 50839, 51023,
)  # fmt: skip
COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 33003, 34712, 34887, 34925, 50000, 50001, 50002, 65000)


def tiff(content: bytes, random: Random) -> bytes:
    """Change a tag, its type, count or value; or where a directory leads; or lay one over another."""
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    word, step, counter = ("Q", 20, "Q") if big else ("I", 12, "H")
    (place,) = struct.unpack_from(order + word, content, 8 if big else 4)
    directories: list[int] = []
    while place and place not in directories and len(directories) < 50:
        directories.append(place)
        (count,) = struct.unpack_from(order + counter, content, place)
        after = place + struct.calcsize(counter) + count * step
        (place,) = struct.unpack_from(order + word, content, after)
    at = random.choice(directories)
    (count,) = struct.unpack_from(order + counter, content, at)
    first = at + struct.calcsize(counter)
    found = bytearray(content)
    entry = first + step * random.randrange(count)
    (tag,) = struct.unpack_from(order + "H", content, entry)
    size = struct.calcsize(word)
    number = random.choice((*NUMBERS, *directories, len(content), len(content) - 1)) % 2 ** (8 * size)
    match random.randrange(6):
        case 0:
            struct.pack_into(order + word, found, entry + 4 + size, number)
        case 1:
            struct.pack_into(order + word, found, entry + 4, number)
        case 2:
            struct.pack_into(order + "H", found, entry + 2, random.randrange(20))
        case 3:
            struct.pack_into(order + "H", found, entry, random.choice(TAGS))
        case 4:
            target = random.choice((*directories, number, 0)) % 2 ** (8 * size)
            struct.pack_into(order + word, found, first + count * step, target)
        case 5:
            value = random.choice(COMPRESSIONS) if tag == 259 else random.choice((0, 1, 2, 3, 4, 5, 6, 8, 16, 64))
            struct.pack_into(order + "H", found, entry + 4 + size, value)
    return bytes(found)


def text(content: bytes, random: Random) -> bytes:
    """Change a word, a number or a line of a text, or of the text in front of pixels."""
    head, gap, tail = content.partition(b"\n\n") if b"NRRD" in content[:8] else (content, b"", b"")
    if b"ElementDataFile" in content:
        end = content.find(b"\n", content.find(b"ElementDataFile")) + 1 or len(content)
        head, gap, tail = content[:end], b"", content[end:]
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    which = random.randrange(len(lines))
    match random.randrange(6):
        case 0 | 1 | 2:
            words = lines[which].replace(",", " , ").replace('"', ' " ').split(" ")
            words[random.randrange(len(words))] = random.choice((*WORDS, *map(str, NUMBERS)))
            lines[which] = " ".join(words)
        case 3:
            lines.insert(which, random.choice(lines))
        case 4:
            del lines[which]
        case 5:
            lines[which] = lines[which].partition(":")[0] + ": " + random.choice((*WORDS, *map(str, NUMBERS)))
    return "\n".join(lines).encode("utf-8", "surrogatepass") + gap + tail


def tree(value: Any, random: Random) -> Any:
    """Change one place of what JSON can say."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        match random.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, random.choice(WORDS): value[key]}
            case _:
                return {**value, key: tree(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.7:
        at = random.randrange(len(value))
        match random.randrange(5):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + [value[at]] * random.choice((2, 3, 200)) + value[at + 1 :]
            case _:
                return [*value[:at], tree(value[at], random), *value[at + 1 :]]
    deep: Any = 0
    for _ in range(random.choice((1, 5, 60))):
        deep = [deep]
    options: tuple[Any, ...] = (
        None,
        True,
        False,
        [],
        {},
        deep,
        value,
        [value],
        {"a": value},
        str(value)[:2000],
        random.choice(WORDS),
    )
    return random.choice((*options, random.choice(NUMBERS), random.choice(REALS), random.choice(NUMBERS) * 10**30))


def json_text(content: bytes, random: Random) -> bytes:
    """Change one place of a JSON file; rarely nest it, or say a key twice."""
    chance = random.random()
    if chance < 0.03:
        depth = random.choice((100, 10_000, 30_000))
        return b"[" * depth + b"]" * depth
    if chance < 0.06:
        return content.replace(b"{", b'{"a": 1, "a": 2, ', 1)
    return json.dumps(tree(json.loads(content), random)).encode("utf-8", "surrogatepass")


def safetensors(content: bytes, random: Random) -> bytes:
    """Change the header, its length, or the bytes behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    match random.randrange(5):
        case 0:
            return struct.pack("<Q", random.choice(NUMBERS) % 2**64) + content[8:]
        case 1:
            return content[: 8 + length] + bytes_of(data, random)
        case _:
            header = json_text(header, random)
            return struct.pack("<Q", len(header)) + header + data


def npy(content: bytes, random: Random) -> bytes:
    """Change the description of an array, with its length right or wrong."""
    (length,) = struct.unpack("<H", content[8:10])
    header, data = content[10 : 10 + length].decode("latin-1").rstrip(), content[10 + length :]
    quoted = {"'|u1'", "'<f4'", "True", "False", "(", ")", ","}
    old = random.choice([word for word in (*quoted, *header.replace(",", " ").split()) if word in header])
    new = random.choice(
        (*WORDS, *map(str, NUMBERS), "'|O'", "'>f8'", "'|V9'", "'<U7'", "'<c8'", "[('a', '<f4')]", "(" * 200, "-" * 900)
    )
    changed = header.replace(old, new, 1).encode("utf-8", "replace")
    size = len(changed) if random.random() < 0.8 else random.choice(NUMBERS)
    return content[:8] + struct.pack("<H", size % 65536) + changed + data


def words_of(known: Sequence[str]) -> Mutation:
    """Change the words of a command line, which stand one after the other with zeros between."""

    def mutate(content: bytes, random: Random) -> bytes:
        words = content.decode("utf-8", "surrogatepass").split("\0")
        at = random.randrange(len(words)) if len(words) > 1 else 0
        match random.randrange(5):
            case 0:
                words.insert(at + 1, random.choice((*known, *WORDS)))
            case 1 if at:
                del words[at]
            case 2 if at:
                words[at] = random.choice((*WORDS, *map(str, NUMBERS), *map(str, REALS)))
            case 3:
                words += [random.choice(known), random.choice((*WORDS, *map(str, NUMBERS), *known))]
            case _ if at:
                words[at] = bytes_of(words[at].encode("utf-8", "replace"), random).decode("utf-8", "replace")
        plain = (word.replace("\0", "") for word in words[:40])
        return "\0".join(plain).encode("utf-8", "replace")

    return mutate


def described(inner: Mutation) -> Mutation:
    """Change the description of a TIFF, which is put at the end of the file."""

    def mutate(content: bytes, random: Random) -> bytes:
        order = {b"II": "<", b"MM": ">"}[content[:2]]
        (place,) = struct.unpack_from(order + "I", content, 4)
        (count,) = struct.unpack_from(order + "H", content, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, _, length, at = struct.unpack_from(order + "HHII", content, entry)
            if tag == 270 and length > 4:
                spaced = content[at : at + length - 1].replace(b'"', b' " ').replace(b"=", b"\n=")
                changed = inner(spaced, random).replace(b' " ', b'"').replace(b"\n=", b"=") + b"\0"
                found = bytearray(content)
                struct.pack_into(order + "II", found, entry + 4, len(changed), len(content))
                return bytes(found) + changed
        raise ValueError("it has no description")

    return mutate
