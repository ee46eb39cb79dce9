//! The five commands of the manual.

use super::*;

/// The commands the manual gives those who start a mirror.
fn five_commands() -> Vec<&'static str> {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme
        .split_once("From nothing to a listed mirror")
        .unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("    "));
    let commands: Vec<&str> = lines
        .take_while(|line| line.starts_with("    "))
        .map(str::trim)
        .collect();
    assert_eq!(commands.len(), 5, "{commands:#?}");
    commands
}

#[test]
fn five_commands_make_a_listed_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let here = directory.path().display().to_string();
    for name in [
        "etc/systemd/system",
        "etc/nginx/conf.d",
        "srv",
        "origin",
        "empty",
    ] {
        fs::create_dir_all(path(name)).unwrap();
    }
    let origin = path("origin/containers");
    rsyncd::sync(tree(), &origin, &[]).unwrap();
    let address = free_address().unwrap();
    let offered = site_config("rsyncd", &origin, &[]);
    let settings = format!("lock file = {here}/lock\n{offered}");
    let (empty, state) = (path("empty"), path("rsyncd"));
    let _origin = RsyncDaemon::start_with(&settings, address, "other", &empty, &state).unwrap();

    // What needs a machine of its own is left out: the account, systemd, a restart of nginx.
    let tool = program("mirror-tool");
    let programs = Path::new(tool.get_program())
        .parent()
        .unwrap()
        .display()
        .to_string();
    let shell = |command: &str| {
        let mut shell = peer("sh").unwrap();
        shell.env("PATH", format!("{programs}:/usr/sbin:/usr/bin:/sbin:/bin"));
        let output = run(shell.args(["-ec", command]));
        output.unwrap_or_else(|error| panic!("{error:#}")).stdout
    };
    let commands = five_commands();
    assert!(commands[0].ends_with("useradd --system mirror"));
    let units = replaced(commands[1], "/srv/", &format!("{here}/srv/"));
    let units = replaced(&units, "//HOST/", &format!("//{address}/"));
    shell(&replaced(
        &units,
        "file = $2",
        &format!("file = \"{here}\" $2"),
    ));
    let read = |name: &str| fs::read_to_string(path("etc/systemd/system").join(name)).unwrap();
    let (service, timer) = (read("mirror-sync.service"), read("mirror-sync.timer"));
    assert!(
        commands[2].contains("mirror-sync.timer") && commands[2].ends_with("start mirror-sync")
    );
    assert!(timer.contains("[Install]") && service.contains("User=mirror\n"));
    let start = service
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    shell(start.unwrap());
    run(&mut verify(&path("srv/containers"))).unwrap_or_else(|error| panic!("{error:#}"));

    let site = replaced(commands[3], "/srv/", &format!("{here}/srv/"));
    let site = replaced(&site, "/etc/nginx", &format!("{here}/etc/nginx"));
    shell(&replaced(&site, " && nginx -s reload", ""));
    let site = fs::read_to_string(path("etc/nginx/conf.d/containers.conf")).unwrap();
    let server = Server::Nginx.start(&site, &path("nginx"));

    let add = replaced(commands[4], "http://mirror.example.org", &server.url());
    let database = format!(" --database {here}/mirrors.db --allow-private-addresses");
    shell(&format!("{add}{database}"));
    let tools = Tools::new(&origin, directory.path());
    let report = tools.run(&["crawl", "--once", "--json"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let host = &report["hosts"][0];
    assert_eq!(host["failure"], serde_json::Value::Null, "{report}");
    assert_eq!(
        (host["missing"].as_u64(), host["behind"].as_u64()),
        (Some(0), Some(0)),
        "{report}"
    );
}
