//! Text as a config: every problem is told, nothing panics, and no secret that
//! stands in it is repeated.
#![no_main]

use std::{cell::RefCell, fs};

use alloy_gateway::{config, load};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static DIRECTORY: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a directory"));
}

fuzz_target!(|bytes: &[u8]| {
    DIRECTORY.with_borrow(|directory| {
        let path = directory.path().join("config.yaml");
        fs::write(&path, bytes).expect("the directory is ours");
        match load::file(&path) {
            Ok(loaded) => assert!(!config::show(&loaded.settings).is_empty()),
            Err(problems) => assert!(!problems.to_string().is_empty()),
        }
    });
});
