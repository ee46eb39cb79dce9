//! Entering, changing and showing mirrors, their sites and accounts, as an operator does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::network::{GERMAN, Network, Tools, fails, names, program, wait};

/// A database of its own, and files to import.
struct Desk {
    directory: TempDir,
    tools: Tools,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // None of these commands looks at a tree.
        let tools = Tools::new(Path::new("/nonexistent"), directory.path());
        Self { directory, tools }
    }

    fn file(&self, text: &str) -> String {
        let path = self.directory.path().join("network.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let output = self.tools.run(&arguments).stdout;
        serde_json::from_str(&output)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output}"))
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("mirrors.db")
    }

    fn export(&self) -> String {
        self.tools.run(&["export"]).stdout
    }
}

const NETWORK: &str = r#"
[[site]]
name = "uni"
url = "https://uni.example/mirrors"

[[site]]
name = "closed"
disabled = "gone\u001b[2J"

[[account]]
name = "anna"
email = "anna@uni.example"
sites = ["uni", "closed"]

[[mirror]]
name = "campus"
site = "uni"
urls = ["https://campus.uni.example/tree", "rsync://campus.uni.example/tree"]
country = "DE"
coordinates = "49.4,8.7"
bandwidth = 10000
netblocks = ["192.0.2.0/24", "2001:db8::/32"]
asns = ["AS64496"]
peer-asns = ["AS64497"]
visibility = "private"
repositories = ["fedora/**"]
excluded-repositories = ["fedora/eln"]
allowed-countries = ["DE", "FR"]
max-blob-size = "1.5GiB"
disabled-by-site = "new disks"

[[mirror]]
name = "everywhere"
kind = "cdn"
urls = ["https://cdn.example"]
denied-countries = ["KP"]
"#;

#[test]
fn importing_twice_changes_nothing() {
    let desk = Desk::new();
    let file = desk.file(NETWORK);
    let first = desk.json(&["import", &file]);
    assert_eq!(
        first["imported"]["mirrors"]["added"],
        json!(["campus", "everywhere"])
    );
    assert_eq!(
        first["imported"]["sites"]["added"],
        json!(["closed", "everywhere", "uni"])
    );
    let export = desk.export();
    let watcher = Connection::open(desk.database()).unwrap();
    let version = || -> i64 {
        watcher
            .query_row("PRAGMA data_version", (), |row| row.get(0))
            .unwrap()
    };
    let before = version();
    for arguments in [
        &["import", &file][..],
        &["import", &file, "--prune"],
        &["import", &file, "--dry-run"],
    ] {
        let again = &desk.json(arguments)["imported"];
        for what in ["sites", "accounts", "mirrors"] {
            for change in ["added", "changed", "removed"] {
                assert_eq!(again[what][change], json!([]), "{again}");
            }
        }
    }
    assert_eq!((version(), desk.export()), (before, export));
}

#[test]
fn an_export_is_the_network() {
    let (desk, copy) = (Desk::new(), Desk::new());
    desk.tools.run(&["import", &desk.file(NETWORK)]);
    desk.tools.run(&[
        "mirror",
        "disable",
        "everywhere",
        "--reason",
        "costs \"too\" much\r\n'''",
    ]);
    let export = desk.export();
    copy.tools.run(&[
        "mirror",
        "add",
        "old",
        "--url",
        "https://old.example",
        "--country",
        "SE",
    ]);
    let imported = &copy.json(&["import", "--prune", &copy.file(&export)])["imported"];
    assert_eq!(imported["mirrors"]["removed"], json!(["old"]));
    assert_eq!(copy.export(), export);
    let without_number = |desk: &Desk| {
        let mut mirrors = desk.json(&["mirror", "list"]);
        for mirror in mirrors.as_array_mut().unwrap() {
            mirror.as_object_mut().unwrap().remove("id");
        }
        mirrors
    };
    assert_eq!(without_number(&desk), without_number(&copy));
    let campus = desk.json(&["mirror", "show", "campus"]);
    assert_eq!(campus["max-blob-size"], 3_u64 << 29);
    assert_eq!(
        campus["objections"],
        json!([{"inactive": "disabled-by-site", "reason": "new disks"}])
    );
}

#[test]
fn a_file_with_one_bad_mirror_changes_nothing() {
    let desk = Desk::new();
    desk.tools.run(&[
        "mirror",
        "add",
        "campus",
        "--url",
        "https://old.example",
        "--country",
        "SE",
    ]);
    let before = desk.export();
    for (bad, told) in [
        (
            "\n[[mirror]]\nname = 'late'\nurls = ['https://l.example']\ncountry = 'Sweden'\n",
            "`late`",
        ),
        (
            "\n[[mirror]]\nname = 'campus'\nurls = ['https://l.example']\n",
            "it is there twice",
        ),
        ("\n[[mirror]\n", "unclosed array table"),
    ] {
        let file = desk.file(&format!("{NETWORK}{bad}"));
        let (code, failure) = fails(&mut desk.tools.command(&["import", "--prune", &file]));
        assert_eq!(code, 1);
        assert!(failure.stderr.contains(told), "{}", failure.stderr);
        assert_eq!(failure.stdout, "");
        assert_eq!(desk.export(), before);
    }
}

#[test]
fn what_names_no_mirror_does_not_empty_the_network() {
    let desk = Desk::new();
    desk.tools.run(&["import", &desk.file(NETWORK)]);
    let before = desk.export();
    // Standard input is empty, as when the program before it in a pipe has failed.
    let (_, failure) = fails(&mut desk.tools.command(&["import", "--prune", "-"]));
    assert!(
        failure.stderr.contains("names no mirror"),
        "{}",
        failure.stderr
    );
    assert_eq!(desk.export(), before);
}

#[test]
fn every_command_of_a_mirror_answers_in_json() {
    let desk = Desk::new();
    let enter = [
        "mirror",
        "add",
        "m",
        "--url",
        "https://m.example",
        "--country",
        "DE",
    ];
    assert_eq!(desk.json(&enter)["mirror"]["name"], "m");
    let set = [
        "mirror",
        "set",
        "m",
        "--bandwidth",
        "5000",
        "--deny-country",
        "FR",
        "--max-blob-size",
        "5GiB",
    ];
    let answer = desk.json(&set);
    assert_eq!(
        answer["changed"],
        json!(["bandwidth", "max-blob-size", "denied-countries"])
    );
    assert_eq!(answer["mirror"]["denied-countries"], json!(["FR"]));
    let clear = [
        "mirror",
        "set",
        "m",
        "--clear",
        "deny-country",
        "--clear",
        "country",
        "--site",
        "s",
    ];
    let answer = desk.json(&clear);
    assert_eq!(
        answer["changed"],
        json!(["country", "denied-countries", "site"])
    );
    assert_eq!(answer["mirror"]["country"], Value::Null);
    assert_eq!(
        desk.json(&["mirror", "disable", "m"])["mirror"]["active"],
        false
    );
    let answer = desk.json(&["mirror", "disable", "m", "--by-site", "--reason", "disks"]);
    assert_eq!(answer["mirror"]["own"]["reason"], "disks");
    assert_eq!(
        desk.json(&["mirror", "enable", "m"])["mirror"]["active"],
        false
    );
    assert_eq!(
        desk.json(&["mirror", "enable", "m", "--by-site"])["mirror"]["active"],
        true
    );
    assert_eq!(desk.json(&["mirror", "show", "m"])["site"], "s");
    assert_eq!(desk.json(&["mirror", "list"])[0]["site"], "s");
    assert_eq!(desk.json(&["mirror", "remove", "m"])["removed"], "m");
    assert_eq!(desk.json(&["mirror", "list"]), json!([]));
}

#[test]
fn every_command_of_sites_and_files_answers_in_json() {
    let desk = Desk::new();
    let file = desk.file(NETWORK);
    desk.tools.run(&[
        "mirror",
        "add",
        "m",
        "--url",
        "https://m.example",
        "--site",
        "s",
        "--kind",
        "cdn",
    ]);
    assert_eq!(desk.json(&["site", "add", "t"])["site"]["name"], "t");
    let answer = desk.json(&["site", "set", "t", "--url", "https://t.example"]);
    assert_eq!(answer["site"]["url"], "https://t.example");
    assert_eq!(
        desk.json(&["site", "disable", "t", "--reason", "x"])["site"]["admin"]["reason"],
        "x"
    );
    assert_eq!(
        desk.json(&["site", "enable", "t"])["site"]["admin"]["state"],
        "enabled"
    );
    assert_eq!(desk.json(&["site", "show", "s"])["mirrors"], Value::Null);
    assert_eq!(
        desk.json(&["site", "show", "s"])["site"]["mirrors"],
        json!(["m"])
    );
    let answer = desk.json(&[
        "account",
        "add",
        "anna",
        "--email",
        "a@t.example",
        "--site",
        "t",
    ]);
    assert_eq!(answer["account"]["sites"], json!(["t"]));
    assert_eq!(
        desk.json(&["account", "grant", "anna", "s"])["account"]["sites"],
        json!(["s", "t"])
    );
    assert_eq!(
        desk.json(&["account", "revoke", "anna", "t"])["account"]["sites"],
        json!(["s"])
    );
    assert_eq!(desk.json(&["account", "list"])[0]["email"], "a@t.example");
    assert_eq!(desk.json(&["site", "list"])[0]["accounts"], json!(["anna"]));
    assert_eq!(desk.json(&["account", "remove", "anna"])["removed"], "anna");
    let (_, failure) = fails(&mut desk.tools.command(&["site", "remove", "s", "--json"]));
    assert!(failure.stderr.contains("1 mirrors"), "{}", failure.stderr);
    assert_eq!(
        desk.json(&["site", "remove", "s", "--with-mirrors"])["mirrors"],
        json!(["m"])
    );
    assert_eq!(desk.json(&["mirror", "list"]), json!([]));
    assert_eq!(desk.json(&["import", &file])["dry-run"], false);
    assert_eq!(
        desk.json(&["mirror", "remove", "campus"])["removed"],
        "campus"
    );
    assert_eq!(desk.json(&["export"])["mirror"][0]["kind"], "cdn");
}

#[test]
fn a_mirror_that_cannot_be_read_costs_no_other() {
    let desk = Desk::new();
    desk.tools.run(&["import", &desk.file(NETWORK)]);
    let database = Connection::open(desk.database()).unwrap();
    database
        .execute(
            "UPDATE host SET country = 'Nowhere' WHERE name = 'campus'",
            (),
        )
        .unwrap();
    let list = desk.tools.run(&["mirror", "list"]).stdout;
    assert!(
        list.contains("campus") && list.contains("its country in the database is malformed"),
        "{list}"
    );
    assert!(list.contains("https://cdn.example"), "{list}");
    let (_, failure) = fails(&mut desk.tools.command(&["mirror", "show", "campus"]));
    assert!(
        failure
            .stderr
            .contains("mirror campus with a malformed country"),
        "{}",
        failure.stderr
    );
    desk.tools.run(&["import", &desk.file(NETWORK)]);
    assert_eq!(desk.json(&["mirror", "show", "campus"])["country"], "DE");
}

#[test]
fn a_reason_cannot_move_the_terminal() {
    let desk = Desk::new();
    desk.tools.run(&["import", &desk.file(NETWORK)]);
    let evil = "x\u{1b}]0;owned\u{7}\r\nactive\u{9b}2J\u{202e}";
    desk.tools
        .run(&["mirror", "disable", "campus", "--reason", evil]);
    desk.tools
        .run(&["site", "disable", "uni", "--by-site", "--reason", evil]);
    for arguments in [
        &["mirror", "list"][..],
        &["mirror", "show", "campus"],
        &["mirror", "show", "campus", "--json"],
        &["mirror", "enable", "campus"],
        &["mirror", "list", "--json"],
        &["site", "list"],
        &["site", "show", "uni"],
        &["site", "show", "closed"],
        &["site", "list", "--json"],
        &["export"],
    ] {
        let text = desk.tools.run(arguments).stdout;
        let moves = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(moves), "{arguments:?}: {text:?}");
    }
}

#[test]
fn killed_while_importing_all_or_nothing() {
    const MIRRORS: u32 = 2000;
    let mut file = String::new();
    for number in 0..MIRRORS {
        writeln!(
            file,
            "[[mirror]]\nname = 'm{number}'\nsite = 's{}'\nurls = ['https://m{number}.example']\nasns = ['AS{number}']",
            number / 3
        )
        .unwrap();
    }
    let whole = Desk::new();
    let path = whole.file(&file);
    let began = Instant::now();
    whole.tools.run(&["import", &path]);
    let (takes, mut killed) = (began.elapsed(), 0);
    for point in 0..30 {
        let desk = Desk::new();
        // Otherwise the database might not be there yet.
        desk.tools.run(&["site", "add", "before"]);
        let mut import = desk
            .tools
            .command(&["import", &path])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(takes * point / 30);
        import.kill().unwrap();
        killed += usize::from(!import.wait().unwrap().success());
        let database = Connection::open(desk.database()).unwrap();
        let count = |table: &str| -> u32 {
            let query = format!("SELECT count(*) FROM {table}");
            database.query_row(&query, (), |row| row.get(0)).unwrap()
        };
        let found = ["host", "url", "asn"].map(count);
        assert!(
            found == [0; 3] || found == [MIRRORS; 3],
            "{found:?} at point {point}"
        );
        let check: String = database
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
    }
    assert!(killed > 10, "only {killed} were killed: this proves little");
}

#[test]
fn an_import_without_an_end_is_refused() {
    let desk = Desk::new();
    let (code, failure) = fails(&mut desk.tools.command(&["import", "/dev/zero"]));
    assert_eq!(code, 1);
    assert!(failure.stderr.contains("16 MiB"), "{}", failure.stderr);
    assert!(!desk.database().exists());
    // A mistyped database must not look like an empty network.
    let (_, failure) =
        fails(program("registry-proxy").args(["export", "--database", "/nonexistent/x.db"]));
    assert!(
        failure.stderr.contains("cannot get at the mirrors"),
        "{}",
        failure.stderr
    );
}

/// What `?mirrorlist` tells a client in Germany.
#[test]
fn a_site_switched_off_takes_its_mirrors_out_and_says_why() {
    let network = Network::start();
    let tools = &network.front_end.tools;
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    tools.run(&["mirror", "set", "sydney", "--site", "uni"]);
    tools.run(&["site", "disable", "uni", "--reason", "power cut"]);
    wait(|| names(&network.front_end.mirrorlist(&layer, GERMAN), "left-out") == ["sydney"]);
    let why = &network.front_end.mirrorlist(&layer, GERMAN)["left-out"][0];
    assert_eq!(
        why["why"],
        "site uni disabled by an administrator: power cut"
    );
    let crawled = tools.crawl().stdout;
    assert!(!crawled.contains("sydney"), "{crawled}");
    tools.run(&["site", "enable", "uni"]);
    wait(|| names(&network.front_end.mirrorlist(&layer, GERMAN), "mirrors").len() == 2);
}

#[test]
fn a_mirror_that_moved_is_not_offered_until_crawled() {
    let network = Network::start();
    let tools = &network.front_end.tools;
    let (layer, _) = network.front_end.largest_layer("debian", "12");
    // Another name of the same server, but who knows that?
    let url = network.nginx.url().replace("127.0.0.1", "localhost");
    tools.run(&["mirror", "set", "heidelberg", "--url", &url]);
    wait(|| names(&network.front_end.mirrorlist(&layer, GERMAN), "mirrors") == ["sydney"]);
    tools.crawl();
    wait(|| {
        names(&network.front_end.mirrorlist(&layer, GERMAN), "mirrors") == ["heidelberg", "sydney"]
    });
    let list = network.front_end.mirrorlist(&layer, GERMAN);
    let offered = list["mirrors"][0]["url"].as_str().unwrap();
    assert!(offered.starts_with(&url), "{offered}");
}
