//! Bytes → tokens: only what the design describes is one.
#![no_main]

use alloy_gateway::token::Token;
use libfuzzer_sys::fuzz_target;

/// CRC-32 (IEEE 802.3, reflected), bit by bit.
fn crc_32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

fn base_62(mut number: u32) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; 6];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fuzz_target!(|bytes: &[u8]| {
    let expected = std::str::from_utf8(bytes).ok().is_some_and(|text| {
        let form = text.len() == 53
            && text.starts_with("agw_")
            && text[4..].bytes().all(|b| b.is_ascii_alphanumeric());
        form && text[47..] == base_62(crc_32(&bytes[..47]))
    });
    assert_eq!(Token::parse(bytes).is_ok(), expected);
});
