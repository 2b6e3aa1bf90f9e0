//! The rules the code keeps (design: "Rules the code keeps"), held against `src/`.

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use self::imports::imports;

/// Every source file with its text up to its tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 30, "only {} files found", files.len());
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let mut code = text.as_str();
            for tests in ["mod tests", "pub(crate) mod testing"] {
                let begins = code.find(&format!("#[cfg(test)]\n{tests}"));
                code = &code[..begins.unwrap_or(code.len())];
            }
            let code: String = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .map(|line| format!("{line}\n"))
                .collect();
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            (name, code)
        })
        .filter(|(name, _)| !name.ends_with("tests.rs") && !name.contains("tests/"))
        .collect()
}

pub fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `needle` stands in files that begin with one of `homes`, in some of each, and nowhere
/// else.
#[track_caller]
fn lives_only_in(needle: &str, homes: &[&str]) {
    let mut unused: BTreeSet<_> = homes.iter().collect();
    for (name, _) in sources().iter().filter(|(_, code)| code.contains(needle)) {
        let home = homes.iter().find(|home| name.starts_with(*home));
        let home = home.unwrap_or_else(|| panic!("{needle} stands in {name}"));
        unused.remove(home);
    }
    assert!(
        unused.is_empty(),
        "{needle} does not stand in {unused:?}: does this rule still say anything?"
    );
}

/// The story's stage is no part of the serving gateway.
const DEMO: &str = "cli/demo";

/// The collector of spans is no upstream: no key, no call and no id of a user goes
/// there, and it stands in the config by itself.
const COLLECTOR: &str = "traces/post.rs";

/// The store of shared limits is no upstream either: names of tenants and keys go
/// there, and nothing else of a call.
const LIMITS_STORE: &str = "fleet/connect.rs";

#[test]
fn only_forward_opens_upstream_connections() {
    lives_only_in(
        "TcpStream::connect",
        &[
            "pipeline/forward/",
            "cli/healthcheck.rs",
            COLLECTOR,
            LIMITS_STORE,
            DEMO,
        ],
    );
    lives_only_in("lookup_host", &["pipeline/forward/"]);
    lives_only_in("client::conn", &[COLLECTOR]);
}

/// The database of the collected trail gets records that are in the trail already, from
/// a thread that no call waits for, and stands in the config by itself.
#[test]
fn only_the_shipper_speaks_to_a_database() {
    lives_only_in("tokio_postgres", &["ship"]);
}

/// The unit's `ProcSubset=pid` and `ProtectProc=invisible` hide the rest.
#[test]
fn of_proc_only_what_is_about_the_process_itself_is_read() {
    lives_only_in(
        "\"/proc/self/",
        &["admin/metrics/process.rs", "cli/memory.rs"],
    );
    for (name, code) in sources() {
        let others = code.replace("\"/proc/self/", "");
        assert!(!others.contains("/proc/"), "{name}");
    }
}

#[test]
fn only_inject_reads_a_key() {
    lives_only_in("expose_authorization", &["secret.rs", "pipeline/inject.rs"]);
}

#[test]
fn only_the_trails_writer_opens_files_for_writing() {
    // The trail and its lock; the demo's own files.
    lives_only_in("OpenOptions", &["audit/disk.rs", DEMO]);
    lives_only_in("fs::write", &[DEMO]);
    for needle in ["File::create", "File::options"] {
        for (name, code) in sources() {
            assert!(!code.contains(needle), "{needle} stands in {name}");
        }
    }
}

#[test]
fn status_codes_live_in_respond_and_admin() {
    lives_only_in("StatusCode", &["pipeline/respond.rs", "admin"]);
}

#[test]
fn serde_derives_live_in_raw_and_record() {
    for needle in [
        "derive(Deserialize",
        "derive(Serialize",
        "Deserialize)]",
        "Serialize)]",
        "Deserialize, ",
        "Serialize, ",
    ] {
        for (name, code) in sources() {
            let home = name.starts_with("config/raw") || name.starts_with("audit/record");
            assert!(home || !code.contains(needle), "{needle} stands in {name}");
        }
    }
    lives_only_in("serde_yaml", &["config/raw"]);
}

#[test]
fn rustls_is_named_in_one_module() {
    lives_only_in("rustls::", &["tls.rs", "tls/"]);
}

#[test]
fn only_the_command_line_has_errors_without_a_kind() {
    lives_only_in("anyhow", &["cli"]);
}

/// The names of the top-level modules in the order of `lib.rs`, each with its group there.
fn floors() -> Vec<(String, usize)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = fs::read_to_string(root).unwrap();
    let mut group = 0;
    let mut floors = Vec::new();
    for line in text.lines() {
        let module = line.trim_start_matches("pub ").strip_prefix("mod ");
        match module.and_then(|module| module.strip_suffix(';')) {
            Some(module) => floors.push((module.to_owned(), group)),
            None => group += usize::from(line.is_empty()),
        }
    }
    floors
}

/// The top-level modules that a source file of another one names.
fn named_in(module: &str, code: &str) -> BTreeSet<String> {
    let imports = imports(module, code);
    let of_crate = code.split("crate::").skip(1);
    let inline = of_crate.map(|after| format!("crate::{after}"));
    let paths = imports.into_iter().chain(inline);
    let end = |c: char| !c.is_alphanumeric() && c != '_';
    paths
        .filter_map(|path| {
            let name = path.strip_prefix("crate::")?;
            let name = name.split(end).next()?;
            (!name.is_empty()).then(|| name.to_owned())
        })
        .collect()
}

/// Whoever reads the modules from the last one up meets nothing that is explained later.
#[test]
fn a_module_knows_none_above_its_group_in_lib_and_none_that_knows_it() {
    let floors: BTreeMap<_, _> = floors().into_iter().collect();
    assert!(floors.len() > 20, "{floors:?}");
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, code) in sources() {
        let module = name.trim_end_matches(".rs").replace('/', "::");
        let top = module.split("::").next().unwrap();
        let Some(own) = floors.get(top) else { continue };
        for named in named_in(&module, &code) {
            let Some(group) = floors.get(&named).filter(|_| named != top) else {
                continue;
            };
            assert!(
                group >= own,
                "{name} names {named}, which stands above {top}"
            );
            known.entry(top.to_owned()).or_default().insert(named);
        }
    }
    assert!(known["server"].contains("pipeline"), "{known:?}");
    without_circles(known);
}

/// The file of `files` that a path leads into, if it is not that of `module` itself, nor of one
/// around or within it.
fn other_file<'a>(path: &str, module: &str, files: &'a BTreeSet<String>) -> Option<&'a str> {
    let path = path.strip_prefix("crate::")?;
    let leads_into = |file: &&String| path.starts_with(&format!("{file}::"));
    let file = files
        .iter()
        .filter(leads_into)
        .max_by_key(|file| file.len())?;
    let within = |one: &str, other: &str| format!("{one}::").starts_with(&format!("{other}::"));
    (!within(file, module) && !within(module, file)).then_some(file.as_str())
}

/// So it is within a module, but for what stands in a file and in the folder beside it.
#[test]
fn no_file_knows_another_one_that_knows_it() {
    let module = |name: &str| name.trim_end_matches(".rs").replace('/', "::");
    let sources = sources();
    let files: BTreeSet<_> = sources.iter().map(|(name, _)| module(name)).collect();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, code) in &sources {
        let module = module(name);
        let others: BTreeSet<_> = imports(&module, code)
            .iter()
            .filter_map(|path| other_file(path, &module, &files))
            .map(str::to_owned)
            .collect();
        known.insert(module, others);
    }
    assert!(
        known["pipeline::record"].contains("pipeline::limit"),
        "{known:?}"
    );
    without_circles(known);
}

/// What knows only what was taken out is taken out: in the end, nothing is left.
#[track_caller]
fn without_circles(mut known: BTreeMap<String, BTreeSet<String>>) {
    while !known.is_empty() {
        let left: BTreeSet<_> = known.keys().cloned().collect();
        known.retain(|_, knows| knows.iter().any(|name| left.contains(name)));
        assert!(known.len() < left.len(), "they know each other: {known:?}");
    }
}

#[test]
fn nothing_prints_but_through_the_output_of_the_command_line() {
    // The macros of std panic when a pipe was closed.
    for needle in ["println!(", "print!("] {
        for (name, code) in sources() {
            assert!(!code.contains(needle), "{needle} stands in {name}");
        }
    }
    lives_only_in("io::stdout()", &["cli/output.rs"]);
}

#[test]
fn nothing_is_left_unfinished_or_unsafe() {
    for needle in [
        "todo!(",
        "unimplemented!(",
        "dbg!(",
        ".unwrap()",
        ".expect(",
        "panic!(",
        "unsafe ",
    ] {
        for (name, code) in sources() {
            assert!(!code.contains(needle), "{needle} stands in {name}");
        }
    }
}

#[test]
fn the_lockfile_holds_no_crate_that_was_ruled_out() {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let versions = |name: &str| lock.matches(&format!("name = \"{name}\"\n")).count();
    for name in [
        "openssl",
        "openssl-sys",
        "native-tls",
        "serde_yml",
        "serde_yaml",
        "rustls-pemfile",
    ] {
        assert_eq!(versions(name), 0, "{name}");
    }
    for name in ["rustls", "hyper", "http", "tokio", "aws-lc-rs"] {
        assert_eq!(versions(name), 1, "{name}");
    }
}

/// What `cargo tree` says with these arguments, and what it says beside it.
fn cargo_tree(arguments: &[&str]) -> (String, String) {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The lockfile names it as an optional part of others; it must not be built.
#[test]
fn only_one_crypto_library_is_built() {
    let (found, said) = cargo_tree(&["--edges", "all", "--invert", "ring"]);
    assert!(found.is_empty(), "{found}");
    assert!(said.contains("nothing to print"), "{said}");
}

/// A crate more is a longer build, and more to trust: it has to earn its place. What the
/// build takes is in docs/performance.md. Other platforms build others.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn no_crate_is_built_that_was_not_weighed() {
    const WEIGHED: usize = 173;
    /// Two versions of these, since governor, and postgres-protocol, are behind others.
    const TWICE: [&str; 2] = ["base64", "hashbrown"];

    let (tree, said) = cargo_tree(&["--edges", "normal,build", "--prefix", "none"]);
    let built: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, version)| (name, version.split(' ').next()))
        .collect();
    let mut versions = BTreeMap::new();
    for (name, _) in &built {
        *versions.entry(*name).or_insert(0) += 1;
    }
    assert_eq!(versions.get("hyper"), Some(&1), "{tree}{said}");
    assert_eq!(
        built.len(),
        WEIGHED,
        "crates, the gateway among them: {built:?}"
    );
    versions.retain(|_, count| *count > 1);
    let twice: Vec<_> = versions.into_keys().collect();
    assert_eq!(twice, TWICE, "built in more than one version");
}

#[test]
fn the_threat_model_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    collect(&root.join("tests"), &mut files);
    let code: String = files
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let names: Vec<_> = text
        .split('`')
        .filter(|word| word.matches('_').count() > 3 && !word.contains(['/', ' ']))
        .collect();
    assert!(names.len() > 20, "only {} tests are named", names.len());
    for name in names {
        assert!(
            code.contains(&format!("fn {name}")),
            "there is no test {name}"
        );
    }
}
