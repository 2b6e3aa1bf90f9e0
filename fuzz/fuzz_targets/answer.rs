//! Raw bytes as the upstream's answer, through the real gateway: whatever they are,
//! the caller gets one whole answer that does not hold the key, and the next call is
//! answered with what belongs to it.
#![no_main]

#[path = "../stage.rs"]
mod stage;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};

use alloy_gateway::server::Gateway;
use libfuzzer_sys::fuzz_target;

use stage::KEY;

/// That of the stage.
const TOKEN: &str = "agw_PgArwPs0BETMUyaw90XGwaHAU7uhTw8lettF9i4hr5M2XX6Wv";

/// An answer, and whether the connection ends with it.
#[derive(Clone, Default)]
struct Said {
    bytes: Vec<u8>,
    closes: bool,
}

/// What the upstream says to a call for the credential `odd`; it has a good answer to
/// any other.
struct Stage {
    said: Arc<Mutex<Said>>,
    address: SocketAddr,
    _gateway: Gateway,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let said = Arc::<Mutex<Said>>::default();
        let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let place = upstream.local_addr().expect("a bound socket");
        let says = Arc::clone(&said);
        thread::spawn(move || {
            for stream in upstream.incoming().flatten() {
                let says = Arc::clone(&says);
                thread::spawn(move || answer(stream, &says));
            }
        });
        let upstream = format!("http://{place}");
        let (gateway, address) =
            stage::start(&upstream, ", retries: 0, request_timeout: 100ms", "");
        Stage {
            said,
            address,
            _gateway: gateway,
        }
    })
}

/// The upstream: one request after another, until the odd one was answered.
fn answer(mut stream: TcpStream, says: &Mutex<Said>) {
    let mut seen = Vec::new();
    let mut space = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut space) {
        seen.extend_from_slice(&space[..length]);
        if !seen.ends_with(b"\r\n\r\n") {
            continue;
        }
        let is_odd = seen.starts_with(b"DELETE /users/u/credentials/odd ");
        seen.clear();
        if is_odd {
            let said = says.lock().expect("no panic holds it").clone();
            let _ = stream.write_all(&said.bytes);
            if said.closes {
                return;
            }
            continue;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    }
}

fn call(address: SocketAddr, credential: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a time-out");
    let request = format!(
        "DELETE /users/u/credentials/{credential} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        TOKEN,
    );
    stream
        .write_all(request.as_bytes())
        .expect("the gateway reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    if bytes.windows(3).any(|part| part == b"429") {
        // It may close the key's gate for a minute.
        return;
    }
    let stage = stage();
    *stage.said.lock().expect("no panic holds it") = Said {
        bytes: bytes.to_vec(),
        closes: how.is_ascii(),
    };
    let odd = call(stage.address, "odd");
    assert!(odd.starts_with("HTTP/1.1 "), "{odd}");
    assert!(odd.contains("\r\nx-alloy-gateway-sent: "), "{odd}");
    assert!(!odd.contains(KEY), "{odd}");
    let next = call(stage.address, "next");
    let is_good = next.starts_with("HTTP/1.1 200 ") && next.ends_with("\r\n\r\ngood");
    // On a busy machine nothing may come in time; another answer must never come.
    assert!(is_good || next.starts_with("HTTP/1.1 504 "), "{next}");
});
