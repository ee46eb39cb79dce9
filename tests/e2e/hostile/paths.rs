//! Paths that lead out of the tree, and links in the tree that do.

use std::os::unix::fs::symlink;

use oci_mirror::tree::TreePath;

use super::{SECRET, place, send, serve, small_tree};

#[test]
fn no_spelling_of_a_path_leads_out_of_the_tree() {
    let (directory, layer) = place();
    let front_end = serve(directory.path());
    let ups = [
        "..",
        "%2e%2e",
        "%2E%2e",
        ".%2e",
        "%252e%252e",
        "..%2f",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "....",
        "..;",
        "..%00",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%uff0e%uff0e",
        "%ff%fe",
        "..%20",
        "...",
    ];
    let starts = [
        "/tree",
        "/tree/",
        "/tree/blobs",
        "/tree/blobs/sha256/00",
        "/tree/repos/a",
        "/tree/repos/a/blobs/sha256",
        "/v2",
        "/v2/a/blobs",
        "/v2/a/manifests",
        "/v2/a/tags",
        "/v2/a/referrers",
        "//tree",
        "/./tree",
    ];
    let ends = [
        "/secret",
        "/tree/../secret",
        "/etc/passwd",
        "//etc/passwd",
        "/secret%00.json",
        "/secret%0a",
    ];
    let mut tried = 0;
    for start in starts {
        for up in ups {
            for depth in [1, 2, 5] {
                let end = ends[tried % ends.len()];
                let path = format!("{start}/{}{end}", vec![up; depth].join("/"));
                let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
                assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
                assert!(
                    !answer.body.contains(SECRET) && !answer.body.contains("root:"),
                    "{path}: {answer:?}"
                );
                tried += 1;
            }
        }
    }
    // Detours that lead back to a file do not lead to it either: a cache in between may see it otherwise.
    let blob = TreePath::Blob(layer).to_string();
    for path in [
        "/tree/./state.json",
        "/tree/x/../state.json",
        "/tree//state.json",
        "/tree/state.json/",
        "/tree/state.json%00",
        "/tree/%2e/state.json",
        &format!("/tree/blobs/../{blob}"),
        &format!("/tree/{}", blob.to_uppercase()),
        "/tree/.~tmp~/",
        "/tree/.~tmp~/dirty",
        "/tree/",
        "/tree/repos/",
        "/tree/repos/a/",
    ] {
        let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    assert_eq!(
        send(&front_end, &format!("GET /tree/{blob} HTTP/1.1"), "").status,
        200
    );
}

#[test]
fn links_out_of_the_tree_are_not_followed() {
    let (directory, layer) = place();
    let tree = directory.path().join("tree");
    let secret = directory.path().join("secret");
    let front_end = serve(directory.path());
    let blob = TreePath::Blob(layer);
    let file = blob.under(&tree);
    let paths = [format!("/tree/{blob}"), format!("/v2/a/blobs/{layer}")];

    // The file itself, by a relative and by an absolute link; then the directory it is in.
    let outside = directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join(layer.hex().to_string()), vec![b'!'; 100_000]).unwrap();
    let fan = file.parent().unwrap();
    for target in [
        secret.clone(),
        "../../../../secret".into(),
        outside.join(layer.hex().to_string()),
    ] {
        std::fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
        for path in &paths {
            let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
            assert!(answer.status >= 400, "{target:?} {path}: {answer:?}");
            assert!(
                !answer.body.contains(SECRET) && !answer.body.contains("!!!"),
                "{path}"
            );
        }
    }
    std::fs::remove_dir_all(fan).unwrap();
    symlink(&outside, fan).unwrap();
    for path in &paths {
        let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
        assert!(
            answer.status >= 400 && !answer.body.contains("!!!"),
            "{path}: {answer:?}"
        );
    }
}

#[test]
fn an_index_or_state_outside_the_tree_is_not_read() {
    let (directory, _) = place();
    let tree = directory.path().join("tree");
    small_tree(&directory.path().join("other"));
    // A whole repository that belongs to another tree, by its index and by its directory.
    let index = tree.join("repos/a/index.json");
    std::fs::remove_file(&index).unwrap();
    symlink(directory.path().join("other/repos/a/index.json"), &index).unwrap();
    symlink(directory.path().join("other/repos/a"), tree.join("repos/b")).unwrap();
    let front_end = serve(directory.path());
    for path in [
        "/v2/a/manifests/1",
        "/v2/a/tags/list",
        "/v2/b/manifests/1",
        "/v2/b/tags/list",
        "/tree/repos/a/index.json",
        "/tree/repos/b/index.json",
    ] {
        let answer = send(&front_end, &format!("GET {path} HTTP/1.1"), "");
        assert!(answer.status >= 400, "{path}: {answer:?}");
    }
    drop(front_end);

    let (directory, _) = place();
    let state = directory.path().join("tree/state.json");
    std::fs::rename(&state, directory.path().join("state.json")).unwrap();
    symlink("../state.json", &state).unwrap();
    let front_end = serve(directory.path());
    assert_eq!(send(&front_end, "GET /readyz HTTP/1.1", "").status, 503);
    assert!(send(&front_end, "GET /tree/state.json HTTP/1.1", "").status >= 400);
}
