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

SEGMENT = re.compile(r"^([0-9]{10}|[1-9][0-9]{10,})\.jsonl$")
TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"}\n$')

BEHIND = re.compile(rb',"hash":"[0-9a-f]{64}"}.', re.DOTALL)


class Wrong(Exception):
    pass


def records(directory):
    """Each line of the trail, with where it stands; the last may be unfinished."""
    segments = [path for path in directory.iterdir() if SEGMENT.match(path.name)]
    segments.sort(key=lambda path: int(path.stem))
    torn = None
    for path in segments:
        if path.is_symlink() or not path.is_file():
            raise Wrong(f"{path.name}: it is not a regular file")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if torn:
                    raise Wrong(f"{torn}: the line is cut short")
                place = f"{path.name} line {number}"
                torn = None if line.endswith(b"\n") else place
                yield place, line


def may_be_torn(line, seq):
    """Whether an unfinished line is what a crash leaves: the next record's beginning, and zeros."""
    written = line.rstrip(b"\0")
    begins = b'{"v":1,"seq":' + (b'%d,"time":"' % (seq + 1) if seq else b"")
    common = min(len(written), len(begins))
    return written[:common] == begins[:common] and not BEHIND.search(written)


def verify(directory, key, keyed_from, expect):
    def plain(content):
        return hashlib.sha256(content).hexdigest()

    def keyed(content):
        return hmac.new(key, content, hashlib.sha256).hexdigest()

    seq, prev, count, keyed_records, unkeyed = 0, "0" * 64, 0, 0, None
    beginning, explained, found, removed_by = None, False, False, None
    for place, line in records(directory):
        if not line.endswith(b"\n"):
            if not may_be_torn(line, seq):
                raise Wrong(f"{place}: it is not what a crash leaves")
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise Wrong(f"{place}: not a record: {error}") from None
        tail = TAIL.search(line)
        if not tail or tail.group(1).decode() != record["hash"]:
            raise Wrong(f"{place}: the hash does not stand last")
        content = line[: tail.start()]
        if key and keyed(content) == record["hash"]:
            keyed_records += 1
        elif keyed_records or plain(content) != record["hash"]:
            raise Wrong(f"{place}: its content is not what was hashed")
        else:
            unkeyed = record["seq"]
        if count == 0 and record["seq"] > 1:
            beginning = (record["seq"] - 1, record["prev"])
        elif (record["seq"], record["prev"]) != (seq + 1, prev):
            raise Wrong(f"{place}: it does not follow record {seq}")
        if record["event"] == "trail.pruned":
            removed = (record["until_seq"], record["until_hash"])
            explained = explained or removed == beginning
            if expect and beginning and removed[0] == expect[0] <= beginning[0]:
                if removed != expect:
                    raise Wrong(f"{place}: record {expect[0]} had the hash {removed[1]!r}")
                removed_by = (place, record["seq"], keyed_records > 0)
        seq, prev, count = record["seq"], record["hash"], count + 1
        if expect and seq == expect[0]:
            if prev != expect[1]:
                raise Wrong(f"{place}: record {seq} should have the hash {expect[1]}")
            found = True
    if beginning and not explained:
        raise Wrong(f"the records up to {beginning[0]} are missing")
    if key and count and not keyed_records:
        raise Wrong("no record was hashed with the key")
    if key and unkeyed is not None and unkeyed >= keyed_from:
        raise Wrong(f"the records up to {unkeyed} carry no key")
    note = f"those up to {unkeyed} carry no key; " if unkeyed else ""
    if expect and not found and expect != (0, "0" * 64):
        if not removed_by:
            raise Wrong(f"record {expect[0]} is not there")
        by_place, by, is_keyed = removed_by
        if not is_keyed:
            raise Wrong(f"{by_place}: that record {expect[0]} was removed says a record without a key")
        note += f"retention removed record {expect[0]}, says record {by}; "
    return count, f"{note}head {seq}:{prev}"


def head(text):
    seq, _, digest = text.partition(":")
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
