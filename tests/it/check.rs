//! What `check` says of what a config names: all of it, where it stands, and nothing
//! else than a start would say.

use crate::command_line::{Config, run, text};

#[test]
fn every_problem_of_the_file_and_of_all_that_it_names_is_told_at_once() {
    let config = Config::new(|text| {
        let text = text.replace("version: 1", "version: 2");
        text.replace("directory: audit", "directory: api-key")
            + "otlp:\n  endpoint: http://127.0.0.1:4318\n  headers: { x: { file: missing } }\n"
    });
    let said = text(&run(&["check", &config.path()]).stderr);
    for field in ["version: ", "audit.directory: ", "otlp.headers.x.file: "] {
        assert!(said.contains(field), "{field} in {said}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
}
