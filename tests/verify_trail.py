#!/usr/bin/env python3
"""Verifies a trail by docs/audit-format.md alone: standard library, no code of the gateway.

usage: verify_trail.py DIRECTORY [--mac-key FILE [--keyed-from SEQ]] [--expect SEQ:HASH]

Exits 0 if every record is as it was written, 3 with the first that is not.
"""

import argparse
import hashlib
import hmac
import json
import pathlib
import re
import sys

SEGMENT = re.compile(r"([0-9]{10}|[1-9][0-9]{10,})\.jsonl")
HASH = re.compile(r"[0-9a-f]{64}")
TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"}\n\Z')

LINE_BYTES_MAX = 64 << 10
ZEROS_MAX = 64 << 20
DEPTH_MAX = 64
SEQ_MAX = 1 << 62

REQUIRED = ("v", "seq", "time", "event", "prev", "hash")
TEXTS = (
    "time event request_id caller_request_id tenant token peer user credential outcome code reason sent "
    "freeze by on_behalf_of since chain mac_key until_hash prev hash"
).split()
NUMBERS = "seq intent latency_us count open frozen retention_rests_ms oldest until_seq".split()
BITS = dict.fromkeys(NUMBERS, 64) | {"v": 32, "attempts": 32, "status": 16, "upstream_status": 16}
KNOWN = frozenset(TEXTS) | frozenset(BITS)


class Wrong(Exception):
    pass


class Other:
    """A number that is no whole one, or too long to be one of ours."""


def whole(text):
    return Other if text == "-0" or len(text) > 20 else int(text)


def constant(text):
    raise ValueError(f"{text} is no JSON")


JSON = json.JSONDecoder(
    object_pairs_hook=list,
    parse_int=whole,
    parse_float=lambda _: Other,
    parse_constant=constant,
)


def is_deep(line):
    """Whether its values nest deeper than those of any record."""
    if line.count(b"{") + line.count(b"[") <= DEPTH_MAX:
        return False
    depth, is_text, is_escaped = 0, False, False
    for byte in line:
        if is_escaped:
            is_escaped = False
        elif byte == 0x5C:
            is_escaped = is_text
        elif byte == 0x22:
            is_text = not is_text
        elif not is_text and byte in b"{[":
            depth += 1
        elif not is_text and byte in b"}]":
            depth -= 1
        if depth > DEPTH_MAX:
            return True
    return False


def parse(line):
    """What a line says, if it is a record."""
    if is_deep(line):
        raise ValueError("its values nest too deep")
    text = line.decode("utf-8").strip(" \t\r\n")
    pairs, end = JSON.raw_decode(text)
    if end != len(text) or not text.startswith("{"):
        raise ValueError("not one object")
    record = {}
    for name, value in pairs:
        name.encode("utf-8")
        if name not in KNOWN:
            continue
        if name in record:
            raise ValueError(f"{name} stands twice")
        record[name] = value
        if value is None and name not in REQUIRED:
            continue
        bits = BITS.get(name)
        if bits is None:
            if not isinstance(value, str):
                raise ValueError(f"{name} is no text")
            value.encode("utf-8")
        elif type(value) is not int or not 0 <= value < 1 << bits:
            raise ValueError(f"{name} is no number, or too high")
    for name in REQUIRED:
        if name not in record:
            raise ValueError(f"it has no {name}")
    return record


def rest_of_line(lines):
    """What stands behind a line's first 64 KiB: whether its end, and whether only zeros."""
    read, is_zeros = 0, True
    while read <= ZEROS_MAX:
        part = lines.readline(1 << 20)
        if not part:
            return False, is_zeros
        if part.endswith(b"\n"):
            return True, False
        read += len(part)
        is_zeros = is_zeros and not part.strip(b"\0")
    return True, False


def lines_of(directory):
    """Each line of the trail, with where it stands; the last may be unfinished."""
    segments = [path for path in directory.iterdir() if SEGMENT.fullmatch(path.name)]
    segments.sort(key=lambda path: (len(path.name), path.name))
    torn = None
    for path in segments:
        if path.is_symlink() or not path.is_file():
            raise Wrong(f"{path.name}: it is not a regular file")
        number = 0
        with path.open("rb") as lines:
            while line := lines.readline(LINE_BYTES_MAX):
                number += 1
                place = f"{path.name} line {number}"
                if torn:
                    raise Wrong(f"{torn}: the line is cut short")
                if not line.endswith(b"\n"):
                    has_end, is_zeros = rest_of_line(lines)
                    if has_end:
                        raise Wrong(f"{place}: a line of more than {LINE_BYTES_MAX} bytes")
                    if not is_zeros:
                        raise Wrong(f"{place}: it is not what a crash leaves")
                    torn = place
                yield place, line


class Trail:
    """What was read so far."""

    def __init__(self, key, expect):
        self.key, self.expect = key, expect
        self.seq, self.prev, self.count = 0, "0" * 64, 0
        self.keyed, self.unkeyed = 0, None
        self.beginning, self.is_explained = None, False
        self.is_found, self.removed_by = False, None

    def is_hashed(self, content, digest):
        """Whether that is its hash, and whether with the key."""
        if self.key and hmac.new(self.key, content, hashlib.sha256).hexdigest() == digest:
            return True, True
        # From the first record with the key on, every record has it.
        is_plain = not self.keyed and hashlib.sha256(content).hexdigest() == digest
        return is_plain, False

    def content(self, line, record):
        """What was hashed of a line: the hash stands last."""
        tail = TAIL.search(line)
        is_last = tail and tail.group(1).decode() == record["hash"]
        return line[: tail.start()] if is_last else None

    def may_be_torn(self, line):
        """Whether an unfinished line is what a crash leaves: the next record's beginning, and zeros."""
        written = line.rstrip(b"\0")
        begins = b'{"v":1,"seq":' + (b'%d,"time":"' % (self.seq + 1) if self.seq else b"")
        common = min(len(written), len(begins))
        if written[:common] != begins[:common] or is_deep(written):
            return False
        try:
            # Bytes, since a character may be cut: that changes nothing of where values end.
            JSON.raw_decode(written.decode("latin-1"))
        except ValueError:
            return True
        # All of it was written but the line's end.
        try:
            record = parse(written)
        except ValueError:
            return False
        content = self.content(written + b"\n", record)
        is_next = not self.seq or (record["seq"], record["prev"]) == (self.seq + 1, self.prev)
        return is_next and content is not None and self.is_hashed(content, record["hash"])[0]

    def add(self, place, line):
        try:
            record = parse(line)
        except ValueError as error:
            raise Wrong(f"{place}: not a record: {error}") from None
        if record["v"] != 1:
            raise Wrong(f"{place}: format version {record['v']}")
        if record["seq"] > SEQ_MAX:
            raise Wrong(f"{place}: no trail has come that far")
        content = self.content(line, record)
        if content is None:
            raise Wrong(f"{place}: the hash does not stand last")
        is_right, is_keyed = self.is_hashed(content, record["hash"])
        if not is_right:
            raise Wrong(f"{place}: its content is not what was hashed")
        if is_keyed:
            self.keyed += 1
        else:
            self.unkeyed = record["seq"]
        if self.count == 0 and record["seq"] > 1:
            if not HASH.fullmatch(record["prev"]):
                raise Wrong(f"{place}: its prev is no hash")
            self.beginning = (record["seq"] - 1, record["prev"])
        elif (record["seq"], record["prev"]) != (self.seq + 1, self.prev):
            raise Wrong(f"{place}: it does not follow record {self.seq}")
        if record["event"] == "trail.pruned":
            self.pruned(place, record)
        self.seq, self.prev, self.count = record["seq"], record["hash"], self.count + 1
        if self.expect and self.seq == self.expect[0]:
            if self.prev != self.expect[1]:
                raise Wrong(f"{place}: record {self.seq} should have the hash {self.expect[1]}")
            self.is_found = True

    def pruned(self, place, record):
        removed = (record.get("until_seq"), record.get("until_hash"))
        if None in removed:
            return
        self.is_explained = self.is_explained or removed == self.beginning
        expect = self.expect
        if expect and self.beginning and removed[0] == expect[0] <= self.beginning[0]:
            if removed != expect:
                raise Wrong(f"{place}: record {expect[0]} had the hash {removed[1]!r}")
            self.removed_by = (place, record["seq"], self.keyed > 0)

    def end(self, keyed_from):
        """What is wrong with all of it, once it was read; what is to be said of it."""
        if self.beginning and not self.is_explained:
            raise Wrong(f"the records up to {self.beginning[0]} are missing")
        if self.key and self.count and not self.keyed:
            raise Wrong("no record was hashed with the key")
        if self.key and self.unkeyed is not None and self.unkeyed >= keyed_from:
            raise Wrong(f"the records up to {self.unkeyed} carry no key")
        note = f"those up to {self.unkeyed} carry no key; " if self.unkeyed else ""
        if self.expect and not self.is_found and self.expect != (0, "0" * 64):
            note += self.removed()
        return f"{note}head {self.seq}:{self.prev}"

    def removed(self):
        if not self.removed_by:
            raise Wrong(f"record {self.expect[0]} is not there")
        place, by, is_keyed = self.removed_by
        if not is_keyed:
            raise Wrong(f"{place}: that record {self.expect[0]} was removed says a record without a key")
        return f"retention removed record {self.expect[0]}, says record {by}; "


def verify(directory, key, keyed_from, expect):
    trail = Trail(key, expect)
    for place, line in lines_of(directory):
        if line.endswith(b"\n"):
            trail.add(place, line)
        elif not trail.may_be_torn(line):
            raise Wrong(f"{place}: it is not what a crash leaves")
    return trail.count, trail.end(keyed_from)


def head(text):
    seq, _, digest = text.partition(":")
    if not HASH.fullmatch(digest):
        raise ValueError("no hash")
    return int(seq), digest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--mac-key", type=pathlib.Path)
    parser.add_argument("--keyed-from", type=int, default=0)
    parser.add_argument("--expect", type=head)
    args = parser.parse_args()
    key = args.mac_key.read_bytes().rstrip(b"\r\n") if args.mac_key else None
    try:
        count, last = verify(args.directory, key, args.keyed_from, args.expect)
    except Wrong as wrong:
        print(f"TAMPERED at {wrong}")
        return 3
    print(f"intact: {count} records, {last}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
