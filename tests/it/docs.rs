//! What the documents point to is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn pages(root: &Path) -> Vec<PathBuf> {
    ["", "docs"]
        .into_iter()
        .flat_map(|directory| fs::read_dir(root.join(directory)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

#[test]
fn links_between_documents_lead_to_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages(root);
    assert!(pages.len() > 8, "only {} pages found", pages.len());
    let mut links = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            let file = page.parent().unwrap().join(target);
            assert!(file.exists(), "{} points to {link}", page.display());
        }
    }
    assert!(links > 30, "only {links} links found");
}

#[test]
fn the_index_names_every_page() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let index = fs::read_to_string(docs.join("README.md")).unwrap();
    for page in fs::read_dir(docs).unwrap() {
        let page = page.unwrap().file_name().into_string().unwrap();
        let is_page = page.ends_with(".md") && page != "README.md";
        assert!(
            !is_page || index.contains(&format!("]({page})")),
            "docs/README.md does not name {page}"
        );
    }
}
