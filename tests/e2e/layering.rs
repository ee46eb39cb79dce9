//! The architecture, checked: imports flow one way and pure modules stay pure.

use std::fs;
use std::path::{Path, PathBuf};

/// All Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root).unwrap().to_owned(), text));
        }
    }
    assert!(
        !found.is_empty(),
        "{folder} has no sources: this check would check nothing"
    );
    found
}

/// The part of a file that is not its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn imports_flow_one_way() {
    for (folder, forbidden) in [
        ("src", &["mirror_tool", "registry_proxy"][..]),
        ("mirror-tool/src", &["registry_proxy"]),
        ("registry-proxy/src", &["mirror_tool"]),
    ] {
        for (path, text) in sources(folder) {
            for module in forbidden {
                assert!(
                    !text.contains(&format!("{module}::")),
                    "{} imports {module}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn pure_modules_touch_nothing_outside() {
    let pure = [
        "src/accept.rs",
        "src/descriptor.rs",
        "src/digest.rs",
        "src/excerpt.rs",
        "src/manifest.rs",
        "src/media_type.rs",
        "src/platform.rs",
        "src/range.rs",
        "src/reference.rs",
        "src/repo_glob.rs",
        "src/size.rs",
        "src/age.rs",
        "src/registry/challenge.rs",
        "src/tree/blob_hash.rs",
        "src/tree/index.rs",
        "src/tree/lane.rs",
        "src/tree/list",
        "src/tree/path.rs",
        "src/tree/pieces.rs",
        "src/tree/sizes.rs",
        "src/tree/state.rs",
        "mirror-tool/src/export/select",
        "mirror-tool/src/export/version",
        "mirror-tool/src/sync/plan",
        "registry-proxy/src/base_url.rs",
        "registry-proxy/src/checkin/json.rs",
        "registry-proxy/src/checkin/presence.rs",
        "registry-proxy/src/checkin/report_mirror.rs",
        "registry-proxy/src/checkin/report_mirror",
        "registry-proxy/src/checkin/xmlrpc.rs",
        "registry-proxy/src/client_address.rs",
        "registry-proxy/src/crawler/listing/line.rs",
        "registry-proxy/src/crawler/listing/lines.rs",
        "registry-proxy/src/crawler/odds.rs",
        "registry-proxy/src/crawler/plan.rs",
        "registry-proxy/src/crawler/sample/choose.rs",
        "registry-proxy/src/db/held.rs",
        "registry-proxy/src/geo/overrides.rs",
        "registry-proxy/src/geo/prefixes.rs",
        "registry-proxy/src/metalink/fields.rs",
        "registry-proxy/src/metalink/v3.rs",
        "registry-proxy/src/metalink/v4.rs",
        "registry-proxy/src/presence",
        "registry-proxy/src/relay/rule.rs",
        "registry-proxy/src/remembered/ladder.rs",
        "registry-proxy/src/select",
        "registry-proxy/src/v2/route.rs",
    ];
    let impure = [
        "tokio",
        "std::fs",
        "reqwest",
        "rusqlite",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
    ];
    for folder in pure {
        for (path, text) in sources(folder) {
            for word in impure {
                assert!(
                    !without_tests(&text).contains(word),
                    "{} names {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn sql_is_only_in_the_database_module() {
    for (path, text) in sources("registry-proxy/src") {
        if !path.starts_with("registry-proxy/src/db") {
            assert!(
                !text.contains("rusqlite"),
                "{} names rusqlite",
                path.display()
            );
        }
    }
}

#[test]
fn programs_start_in_few_lines() {
    for main in ["mirror-tool/src/main.rs", "registry-proxy/src/main.rs"] {
        let (path, text) = sources(main).remove(0);
        assert!(text.lines().count() <= 40, "{} has logic", path.display());
    }
}
