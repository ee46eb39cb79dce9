//! Units of systemd.

use super::*;

#[test]
fn systemd_takes_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("my mirrors/containers");
    let more = [
        "--from",
        "rsync://containers.example.org/containers",
        "--from",
        "https://containers.example.org/tree?a=%20",
        "--static-v2",
    ];
    let printed = site_config("systemd", &tree, &more);
    // The program is not installed where systemd looks for it.
    let tool = program("mirror-tool");
    let tool = tool.get_program().to_str().unwrap();
    let printed = replaced(
        &printed,
        "ExecStart=mirror-tool ",
        &format!("ExecStart={tool} "),
    );
    let (mut files, mut current) = (Vec::new(), None);
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix("# /etc/systemd/system/") {
            let path = directory.path().join(name);
            current = Some(fs::File::create(&path).unwrap());
            files.push(path);
        }
        writeln!(current.as_mut().unwrap(), "{line}").unwrap();
    }
    assert_eq!(files.len(), 2, "{printed}");
    let verified = run(peer("systemd-analyze")
        .unwrap()
        .args(["verify", "--man=no"])
        .args(&files))
    .unwrap();
    // It says what it does not know, and ends well.
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(!verified.stderr.contains(name), "{}", verified.stderr);
    }
    let mut security = peer("systemd-analyze").unwrap();
    security.args(["security", "--offline=true", "--threshold=30"]);
    run(security.arg(&files[0])).unwrap_or_else(|error| panic!("{error:#}"));
}
