//! Claims about the configuration file; most of them are about what must be refused.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../../../contrib/mirror-tool.toml");

#[track_caller]
fn parse(text: &str) -> Config {
    Config::parse(text.as_bytes()).unwrap()
}

#[track_caller]
fn mistake(text: &str) -> String {
    Config::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_example_parses() {
    let config = parse(EXAMPLE);
    assert_eq!(config.tree.as_deref(), Some(Path::new("/srv/containers")));
    assert_eq!(config.jobs, Some(4));
    assert!(config.sources.len() >= 3);
    assert!(!config.registries.is_empty());
}

#[test]
fn the_example_shows_every_key_there_is() {
    // A key that serde does not know is told with a list of those it does know.
    for (text, table) in [
        ("zz = 1", "top"),
        ("[defaults]\nzz = 1", "[defaults]"),
        ("[[source]]\nzz = 1", "[[source]]"),
        ("[registry.\"q.io\"]\nzz = 1", "[registry]"),
    ] {
        let message = mistake(text);
        let (_, keys) = message.split_once("expected one of ").unwrap();
        for key in keys.split(", ").map(|key| key.trim_matches('`')) {
            let shown = EXAMPLE.lines().any(|line| {
                let line = line.trim_start_matches('#').trim_start();
                line.starts_with(&format!("{key} = "))
                    || line.starts_with(&format!("[{key}]"))
                    || line.starts_with(&format!("[[{key}]]"))
                    || line.starts_with(&format!("[{key}."))
            });
            assert!(shown, "{key} of {table}");
        }
    }
}

#[test]
fn what_the_example_leaves_out_by_comment_is_right_too() {
    // `#key = value` is a setting, `# Words` are words.
    let settings = EXAMPLE.replace("\n#", "\n").replace("\n ", "\n# ");
    let config = parse(&settings);
    assert!(config.authfile.is_some() && config.module.is_some());
}

#[test]
fn a_source_has_its_options() {
    let config = parse(
        r#"
        [defaults]
        latest = 3
        referrers = false
        platforms = ["linux/amd64"]
        [[source]]
        from = "docker://quay.io/fedora/fedora"
        tags = "^4"
        exclude-tags = "-rc"
        semver = ">=42"
        min-age = "1d12h"
        platforms = []
        dest-name = "fedora"
        [[source]]
        from = "oci:layout:1.0"
        prune = false
        "#,
    );
    let [fedora, layout] = &config.sources[..] else {
        panic!("{:?}", config.sources)
    };
    let options = config.options_of(fedora);
    assert_eq!(options.latest.map(NonZeroUsize::get), Some(3));
    assert_eq!(options.platforms, Some(Vec::new()));
    assert_eq!(options.referrers, Some(false));
    assert_eq!(
        options.dest_name.as_ref().map(RepoName::as_str),
        Some("fedora")
    );
    let selection = options.selection();
    assert!(selection.wants("43") && !selection.wants("43-rc1") && !selection.wants("41"));
    assert_eq!(selection.min_age, Some(Duration::from_secs(36 * 3600)));
    assert_eq!(layout.from.to_string(), "oci:layout:1.0");
    assert_eq!(config.options_of(layout).prune, Some(false));
}

#[test]
fn the_nearest_layer_wins() {
    let config = parse(
        r#"
        prune = true
        [defaults]
        tags = "default"
        dest-name = "default"
        [[source]]
        from = "q.io/a"
        tags = "source"
        [[source]]
        from = "q.io/b"
        prune = false
        "#,
    );
    let flags = PerSource {
        dest_name: Some("flag".parse().unwrap()),
        ..PerSource::default()
    };
    let of = |source: usize| {
        flags
            .clone()
            .over(&config.options_of(&config.sources[source]))
    };
    let tags = |options: &PerSource| options.tags.as_ref().map(|tags| tags.as_str().to_owned());
    assert_eq!(tags(&of(0)).as_deref(), Some("source"));
    assert_eq!(tags(&of(1)).as_deref(), Some("default"));
    assert_eq!(of(1).dest_name, flags.dest_name);
    assert_eq!((of(0).prune, of(1).prune), (Some(true), Some(false)));
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = r#"
        tree = "tree"
        authfile = "/etc/auth.json"
        [[source]]
        from = "oci:layout"
        [[source]]
        from = "q.io/a"
        [registry."q.io"]
        tls-ca = "ca.pem"
    "#;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mirror.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::read(&path).unwrap();
    assert_eq!(config.tree, Some(dir.path().join("tree")));
    assert_eq!(config.authfile, Some("/etc/auth.json".into()));
    assert_eq!(
        config.registries.values().next().unwrap().tls_ca,
        Some(dir.path().join("ca.pem"))
    );
    assert_eq!(
        config.sources[0].from.to_string(),
        format!("oci:{}", dir.path().join("layout").display())
    );
    assert_eq!(config.sources[1].from.to_string(), "q.io/a");
}

#[test]
fn a_mistake_is_told_in_one_line_with_its_place() {
    for (text, line, words) in [
        (
            "jobs = 4\njbos = 5",
            2,
            &["unknown field `jbos`", "`jbos = 5`"][..],
        ),
        (
            "\n[[source]]\nfrom = \"q.io/a\"\ntag = \"x\"",
            4,
            &["unknown field `tag`"],
        ),
        (
            "[[source]]\nfrom = \"q.io/a\"\nsemver = \"latest\"",
            3,
            &["no version", "semver ="],
        ),
        (
            "[[source]]\nfrom = \"q.io/a\"\ntags = \"(\"",
            3,
            &["unclosed group"],
        ),
        ("[[source]]\ntags = \"x\"", 1, &["missing field `from`"]),
        (
            "[defaults]\nfrom = \"q.io/a\"",
            2,
            &["unknown field `from`"],
        ),
        ("[[source]]\nfrom = \"fedora\"", 2, &["names no registry"]),
        (
            "[defaults]\nmin-age = \"7\"",
            2,
            &["span of time", "min-age"],
        ),
        ("[defaults]\nmin-age = 7", 2, &["invalid type"]),
        ("[defaults]\nlatest = 0", 2, &["nonzero"]),
        (
            "[defaults]\nplatforms = [\"linux\"]",
            2,
            &["not a platform"],
        ),
        (
            "[registry.\"q.io/a\"]\nplain-http = true",
            1,
            &["not a registry host"],
        ),
        ("[registry.\"q.io\"]\nmax-concurrent = 0", 2, &["nonzero"]),
        ("jobs = 0", 1, &["1 to 256"]),
        ("jobs = 257", 1, &["1 to 256"]),
        ("retries = -1", 1, &["retries"]),
        ("module = \"a/b\"", 1, &["not a module name"]),
        ("tree = 1", 1, &["tree = 1"]),
        ("tree = \"a\"\ntree = \"b\"", 2, &["duplicate"]),
        ("tree", 1, &["tree"]),
    ] {
        let message = mistake(text);
        assert!(message.starts_with(&format!("line {line}, ")), "{message}");
        assert!(!message.contains('\n'), "{message}");
        for word in words {
            assert!(message.contains(word), "{message} lacks {word}");
        }
    }
}

#[test]
fn a_message_is_short_however_long_the_line_is() {
    let long = "x\u{1b}".repeat(100_000);
    for text in [
        format!("tree = {long}"),
        format!("[defaults]\n'{long}' = 1"),
        format!("jobs = '''{long}'''"),
    ] {
        let message = mistake(&text);
        assert!(message.len() < 2000, "{} bytes", message.len());
        assert!(!message.contains(char::is_control), "{message}");
    }
}

#[test]
fn size_and_sources_are_bounded() {
    let large = vec![b'\n'; usize::try_from(MAX_BYTES).unwrap() + 1];
    assert_eq!(Config::parse(&large).unwrap_err(), Mistake::TooLarge);
    let many = "[[source]]\nfrom='oci:x'\n".repeat(MAX_SOURCES + 1);
    assert_eq!(
        Config::parse(many.as_bytes()).unwrap_err(),
        Mistake::TooManySources {
            count: MAX_SOURCES + 1
        }
    );
    assert!(matches!(Config::parse(b"\xff"), Err(Mistake::NotText(_))));
    let deep = "a = ".to_owned() + &"[".repeat(500_000);
    assert!(Config::parse(deep.as_bytes()).is_err());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/no/such/mirror.toml")).unwrap_err();
    assert!(
        error.to_string().contains("/no/such/mirror.toml"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Config::parse(&bytes));
    }

    #[test]
    fn no_text_panics(text in "(\\[(defaults|\\[source\\]|registry\\.a)\\]\n|(tags|from|semver|latest|min-age|tls-ca) = ['\"0-9a-z:/.<>= -]{0,12}\n|.{0,9}\n?){0,8}") {
        if let Err(mistake) = Config::parse(text.as_bytes()) {
            prop_assert!(!mistake.to_string().contains(char::is_control));
        }
    }
}
