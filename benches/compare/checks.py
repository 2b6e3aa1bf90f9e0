"""Whether a subject does the whole work: asked before anything is timed."""

import os
import pathlib
import time

from . import figures
from .stage import ANSWER, CREDENTIAL, KEY, USER, VERSION, Recorder, ask, fail, path, request, token


def recorded(place):
    """How many lines a subject has on disk."""
    place = pathlib.Path(place)
    files = place.glob("*.jsonl") if place.is_dir() else [place]
    return b"".join(file.read_bytes() for file in files if file.exists())


def check(stage, subject, recorder, stranger):
    """Ends the run if `subject` answers, forwards, limits or records wrongly."""
    def must(fact, what):
        if not fact:
            fail(f"{subject.name}: {what}")

    recorder.heads.clear()
    recorder.connections = 0
    process, port = subject.start(stage, upstream=recorder.port)
    mine, other = stage.tokens[0], stage.tokens[1]
    for known in (mine, other):
        recorder.heads.clear()
        status, body = ask(port, request(known))
        must((status, body) == (200, ANSWER.encode()) or (status == 200 and ANSWER.encode() in body), f"a good call is answered {status} {body!r}")
        must(len(recorder.heads) == 1, f"{len(recorder.heads)} requests reached the upstream for one call")
        head = recorder.heads[0]
        fields = [line.lower().split(": ", 1) for line in head.split("\r\n")[1:]]
        values = lambda name: [value for key, value in fields if key == name]
        must(head.startswith(f"DELETE {path()} HTTP/1.1\r\n"), f"the upstream got {head.splitlines()[0]}")
        must(values("authorization") == [f"bearer {KEY}"], "the upstream got another key")
        must(values("x-api-version") == [VERSION], "the upstream got another version")
        must(values("host")[0].split(":")[0] == "localhost", "the upstream got another host")
        must(known not in head, "the token of the caller reached the upstream")
    recorder.heads.clear()
    for data, right in [
        (request(token()), 401),
        (request(mine, target="/elsewhere"), 404),
        (request(mine, method="GET"), 405),
    ]:
        status, _ = ask(port, data)
        must(status == right, f"answered {status} instead of {right}")
    must(not recorder.heads, "a refused call reached the upstream")
    # Buffers are flushed within seconds.
    wanted, end = 2, time.time() + 15
    while time.time() < end:
        text = recorded(process.records_in)
        if text.count(USER.encode()) >= wanted and text.count(CREDENTIAL.encode()) >= wanted:
            break
        time.sleep(0.1)
    else:
        fail(f"{subject.name}: no record of each call on disk")
    must(KEY.encode() not in text, "the key is on disk")
    if subject.trail:
        must(text.count(b'"request.intent"') == 2 and text.count(b'"request.outcome"') == 2, "the trail lacks records")
    for _ in range(20):
        ask(port, request(mine))
    must(0 < recorder.connections < 5, f"{recorder.connections} connections to the upstream for 22 calls in turn")
    stage.end(process)

    # An upstream whose certificate is of nobody that it knows.
    process, port = subject.start(stage, upstream=stranger.port)
    status, _ = ask(port, request(mine))
    must(status in (502, 503), f"answered {status} for an upstream with a certificate of its own")
    must(not stranger.heads, "a request with the key reached an upstream with a certificate of its own")
    stage.end(process)

    # A record for each call under load, too: those that were under way at the end have one, and no answer,
    # and some note a connection on which no more came.
    process, port = subject.start(stage)
    # Whatever it says of its start is written by then.
    time.sleep(0.5)
    lines = lambda: recorded(process.records_in).count(b'"request.outcome"' if subject.trail else b"\n")
    before = lines()
    calls, end = figures.load(stage, process, port, 16, 1)["calls"], time.time() + 15
    while time.time() < end and lines() - before < calls:
        time.sleep(0.1)
    must(calls <= lines() - before <= calls + 40, f"{lines() - before} records of {calls} calls")
    stage.end(process)

    process, port = subject.start(stage, upstream=recorder.port, limit=5)
    statuses = [ask(port, request(mine))[0] for _ in range(60)]
    must(set(statuses) == {200, 429}, f"a limit of 5 a second gave {set(statuses)}")
    must(ask(port, request(other))[0] == 200, "one tenant's limit is another's")
    stage.end(process)


def check_all(stage, subjects):
    recorder = Recorder(stage.path("tls.crt"), stage.path("tls.key"))
    stranger = Recorder(stage.path("stranger.crt"), stage.path("stranger.key"))
    for subject in subjects:
        check(stage, subject, recorder, stranger)


def still_right(stage, name, port):
    """The same instance that is timed, asked once more. The calls of a thousand callers that just left
    are carried out all the same, and none is taken until there is a place: within seconds there is."""
    end = time.time() + 10
    while True:
        status, _ = ask(port, request(stage.tokens[0]))
        refused, _ = ask(port, request(token()))
        if (status, refused) == (200, 401):
            return
        if time.time() > end:
            fail(f"{name} answers {status} to a good token and {refused} to an unknown one")
        time.sleep(0.2)
