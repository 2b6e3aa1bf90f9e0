use super::*;

/// Status, body and whether the connection stays open; `Ok(None)` if there is more
/// to come.
type Read = Result<Option<(u16, Vec<u8>, bool)>, &'static str>;

fn seen(whole: Result<Option<Whole>, Wrong>) -> Read {
    let whole = whole.map_err(|wrong| wrong.why)?;
    Ok(whole.map(|w| (w.answer.status, w.answer.body.to_vec(), w.stays_open)))
}

/// What is read if the bytes come in pieces of this size, and then none.
fn in_pieces(bytes: &[u8], size: usize, closes: bool) -> Read {
    let mut reply = Reply::default();
    let mut pieces = bytes.chunks(size);
    for piece in pieces.by_ref() {
        match seen(reply.take(piece)) {
            Ok(None) => {}
            // What comes in a later piece is found when the connection is used again.
            Ok(Some((status, body, stays))) => {
                let stays = stays && pieces.next().is_none();
                return Ok(Some((status, body, stays)));
            }
            wrong => return wrong,
        }
    }
    if closes {
        seen(reply.close())
    } else {
        Ok(None)
    }
}

fn read(text: &str) -> Read {
    read_bytes(text.as_bytes(), false)
}

fn read_to_the_end(text: &str) -> Read {
    read_bytes(text.as_bytes(), true)
}

/// However the bytes are cut, it is the same, but that a fault may be found later.
#[track_caller]
fn read_bytes(bytes: &[u8], closes: bool) -> Read {
    let whole = in_pieces(bytes, bytes.len().max(1), closes);
    for size in [1, 2, 3, 7, 64] {
        let cut = in_pieces(bytes, size, closes);
        assert!(
            cut == whole || (whole.is_err() && !cut.as_ref().is_ok_and(Option::is_some)),
            "{whole:?} {cut:?} in pieces of {size}: {:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    whole
}

#[test]
fn a_body_ends_where_it_is_said_to() {
    let ok = |body: &str, stays: bool| Ok(Some((200, body.as_bytes().to_vec(), stays)));
    for (fields, text, expected) in [
        ("Content-Length: 2\r\n", "ab", ok("ab", true)),
        ("content-length: 0\r\n", "", ok("", true)),
        (
            "Content-Length: 2, 2\r\ncontent-length: 2\r\n",
            "ab",
            ok("ab", true),
        ),
        (
            "Transfer-Encoding: Chunked\r\n",
            "2\r\nab\r\n0\r\n\r\n",
            ok("ab", true),
        ),
        (
            "Content-Length: 16\r\n",
            r#"{"success":true}"#,
            ok(r#"{"success":true}"#, true),
        ),
        // Not used again.
        ("Content-Length: 2\r\n", "abc", ok("ab", false)),
        (
            "Transfer-Encoding: chunked\r\n",
            "2\r\nab\r\n0\r\n\r\nx",
            ok("ab", false),
        ),
        (
            "Content-Length: 2\r\nConnection: x, CLOSE\r\n",
            "ab",
            ok("ab", false),
        ),
        (
            "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
            "2\r\nab\r\n0\r\n\r\n",
            ok("ab", false),
        ),
    ] {
        assert_eq!(
            read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n{text}")),
            expected,
            "{fields}"
        );
    }
    let old = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab";
    assert_eq!(read(old), ok("ab", false));
    let until_closed = "HTTP/1.1 200 OK\r\n\r\nab";
    assert_eq!(read(until_closed), Ok(None));
    assert_eq!(read_to_the_end(until_closed), ok("ab", false));
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    for status in [204, 304] {
        for (fields, stays) in [
            ("", true),
            ("Content-Length: 0\r\n", true),
            ("Content-Length: 0, 0\r\n", true),
            // A body may follow all the same.
            ("Content-Length: 2\r\n", false),
            ("Content-Length: 0\r\nContent-Length: 2\r\n", false),
            ("Content-Length: x\r\n", false),
            ("Transfer-Encoding: chunked\r\n", false),
            ("Transfer-Encoding: identity\r\n", false),
        ] {
            let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
            assert_eq!(
                read(&text),
                Ok(Some((status, Vec::new(), stays))),
                "{text:?}"
            );
            let with_one = format!("{text}{{}}");
            assert_eq!(read(&with_one), Ok(Some((status, Vec::new(), false))));
        }
    }
    let switching = "HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(read(switching), Ok(Some((101, Vec::new(), false))));
}

#[test]
fn interim_answers_are_skipped_up_to_a_small_number() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let text = |count: usize| {
        let last = "\r\nHTTP/1.1 200 OK\nContent-Length: 0\n\n";
        interim.repeat(count) + last
    };
    assert_eq!(read(&text(8)), Ok(Some((200, Vec::new(), true))));
    assert_eq!(read(&text(9)), Err("too many interim answers"));
}

#[test]
fn what_is_no_answer_is_refused() {
    for text in [
        "garbage\r\n\r\n",
        "{\"success\":true}",
        "\0\0\0\x04\0\0\0\0\0",
        "ICY 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 99 Odd\r\n\r\n",
        "HTTP/1.1 099 Odd\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n",
    ] {
        assert_eq!(read_to_the_end(text), Err("not HTTP"), "{text:?}");
    }
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 3",
        "Content-Length: +2",
        "Content-Length: 2a",
        "Content-Length:",
        "Content-Length: 1048577",
        "Content-Length: 99999999999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nab");
        assert!(read(&text).is_err(), "{fields:?}");
    }
    assert!(read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").is_err());
}

#[test]
fn what_is_cut_short_is_no_answer() {
    let cut = "the answer's body was cut short";
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    ] {
        assert_eq!(read_to_the_end(text), Err(cut), "{text:?}");
    }
    for text in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 103 X\r\n\r\n",
    ] {
        let mut reply = Reply::default();
        assert!(reply.take(text.as_bytes()).unwrap().is_none());
        assert!(!reply.has_begun());
        assert!(reply.close().unwrap().is_none(), "{text:?}");
    }
    let mut reply = Reply::default();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    assert!(reply.take(head).unwrap().is_none());
    assert!(reply.has_begun());
}

#[test]
fn heads_and_bodies_are_bounded() {
    let fields = |count: usize| "X-A: b\r\n".repeat(count);
    let text = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", fields(count));
    assert!(in_pieces(text(100).as_bytes(), 999, true).is_ok());
    assert!(in_pieces(text(101).as_bytes(), 999, true).is_err());
    for endless in [
        format!("HTTP/1.1 200 OK\r\nX-A: {}", "a".repeat(70_000)),
        fields(9000),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{endless}");
        assert!(in_pieces(text.as_bytes(), 999, false).is_err());
        assert!(in_pieces(text.as_bytes(), text.len(), false).is_err());
    }
    let until_closed = |length| format!("HTTP/1.1 200 OK\r\n\r\n{}", "a".repeat(length));
    assert!(in_pieces(until_closed(BODY_BYTES_MAX).as_bytes(), 9999, true).is_ok());
    assert!(in_pieces(until_closed(BODY_BYTES_MAX + 1).as_bytes(), 9999, true).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, size in 1_usize..9) {
        let _ = in_pieces(&bytes, size, true);
    }

    #[test]
    fn nothing_like_an_answer_depends_on_how_it_is_cut(
        head in "HTTP/1\\.[01] [1-5]0[0-4] ?O?K?\r?\n",
        fields in "((Content-Length: [0-3]|Transfer-Encoding: chunked|Connection: close)\r?\n){0,2}\r?\n?",
        body in "([0-2]\r\n)?[ab]{0,3}(\r\n0\r\n\r\n)?",
        closes: bool,
    ) {
        let _ = read_bytes(format!("{head}{fields}{body}").as_bytes(), closes);
    }
}
