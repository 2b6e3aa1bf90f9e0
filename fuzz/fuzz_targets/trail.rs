//! Bytes as a trail's segments: the readers neither panic nor take it for intact.
#![no_main]

use std::{cell::RefCell, fs};

use alloy_gateway::audit::{Filter, Follower, Known, query, verify};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static DIRECTORY: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a directory"));
}

fuzz_target!(|segments: (Vec<u8>, Vec<u8>)| {
    DIRECTORY.with_borrow(|directory| {
        let directory = directory.path();
        for (name, bytes) in [
            ("0000000001.jsonl", &segments.0),
            ("0000000002.jsonl", &segments.1),
        ] {
            fs::write(directory.join(name), bytes).expect("the directory is ours");
        }
        let report = verify(directory, &Known::default(), |_| {}).expect("readable files");
        // Nobody finds a preimage of SHA-256 here, but the seeds are real records.
        assert!(report.is_intact() || report.wrong.is_some());
        let _ = report.to_string();
        let mut rows = 0;
        let found = query(
            directory,
            &Known::default(),
            &Filter::default(),
            |_| rows += 1,
            |_| {},
        )
        .expect("readable files");
        assert_eq!(found.rows, rows);
        let (_, last) = Follower::begin(directory, 10).expect("readable files");
        assert!(last.len() <= 10);
    });
});
