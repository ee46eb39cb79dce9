//! Where clients are sent, and whether all that speaks of it says the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::network::{AUSTRALIAN, FrontEnd, GERMAN, Network, names};

const FORWARDED: &str = "x-forwarded-for";

/// The country database that is built in.
fn builtin() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/geo-whois-asn-country.mmdb");
    fs::read(path).unwrap()
}

/// Puts a file in the place of another at once, as `rsync` does.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

/// The network, to be changed while it runs.
struct Scene {
    network: Network,
}

impl Scene {
    fn start() -> Self {
        let network = Network::start();
        Self { network }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.network.directory.path().join(name)
    }

    /// Gives the running front end further settings; it takes them up by itself. One client asks for one
    /// blob again and again here, which must not be taken for retries.
    fn configure(&self, settings: &str) {
        let text = format!(
            "trusted-proxies = [\"127.0.0.0/8\"]\n{settings}\n[crawler]\nenabled = false\n\
             [redirect]\nretry-window = \"0s\"\n"
        );
        replace(&self.path("config.toml"), text.as_bytes());
    }

    fn layer(&self) -> (String, u64) {
        self.network.front_end.largest_layer("debian", "12")
    }

    /// Where a client is sent for the layer.
    fn sent_to(&self, client: &str, query: &str) -> String {
        let (layer, _) = self.layer();
        let answer = self
            .network
            .front_end
            .get(&format!("{layer}{query}"), &[(FORWARDED, client)]);
        answer.field("location").to_owned()
    }

    /// Waits until a client is sent to a mirror.
    #[track_caller]
    fn wait_for(&self, client: &str, mirror: &str) {
        let mut last = String::new();
        for _ in 0..150 {
            last = self.sent_to(client, "");
            if last.starts_with(mirror) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{client} is still sent to {last} and not to {mirror}");
    }

    #[track_caller]
    fn wait_for_log(&self, text: &str) {
        let log = || fs::read_to_string(self.path("front-end.log")).unwrap();
        for _ in 0..150 {
            if log().contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no {text:?} in {}", log());
    }

    /// Enters the server of the first mirror once more, by another name.
    fn add_campus(&self, options: &[&str]) -> String {
        let url = self.network.nginx.url().replace("127.0.0.1", "localhost");
        let arguments = ["mirror", "add", "campus", "--url", &url, "--country", "DE"];
        let tools = &self.network.front_end.tools;
        tools.run(&[&arguments, options].concat());
        tools.crawl();
        url
    }

    /// Changes the database as a later version of the program, or another program, may.
    fn sql(&self, statement: &str) {
        let database = rusqlite::Connection::open(self.path("mirrors.db")).unwrap();
        database.execute_batch(statement).unwrap();
    }
}

#[test]
fn a_prefix_file_decides_the_network() {
    let scene = Scene::start();
    let campus = scene.add_campus(&["--asn", "AS64500"]);
    let file = scene.path("prefixes");
    fs::write(&file, "# ours\n130.149.0.0/16\tAS64500\n1.0.0.0/8 64501\n").unwrap();
    scene.configure(&format!("asn-prefixes = [\"{}\"]", file.display()));
    scene.wait_for(GERMAN, &campus);
    scene.wait_for(AUSTRALIAN, &scene.network.apache.url());
    // A more specific prefix is another network's.
    replace(
        &file,
        b"1.0.0.0/8 64500\n130.149.0.0/16 1\n130.149.7.0/24 2\n",
    );
    scene.wait_for(AUSTRALIAN, &campus);
    // What is no such file changes nothing.
    replace(&file, b"1.0.0.0/8 64501\n1.2.3.4\n");
    scene.wait_for_log("line 2");
    assert!(scene.sent_to(AUSTRALIAN, "").starts_with(&campus));
}

#[test]
fn geographic_files_replaced_move_clients_and_bad_ones_do_not() {
    let scene = Scene::start();
    let (heidelberg, sydney) = (scene.network.nginx.url(), scene.network.apache.url());
    let file = scene.path("geo.mmdb");
    let good = builtin();
    // The same file, but what was German is Australian: a text of two letters begins with 0x42.
    let mut moved = good.clone();
    let mut count = 0;
    for at in 0..moved.len() - 3 {
        if moved[at..].starts_with(b"\x42DE") {
            moved[at + 1..at + 3].copy_from_slice(b"AU");
            count += 1;
        }
    }
    assert!(count > 0);
    fs::write(&file, &good).unwrap();
    scene.configure(&format!("geoip = [\"{}\"]", file.display()));
    scene.wait_for(GERMAN, &heidelberg);
    scene.wait_for_log("is up to date");
    replace(&file, &moved);
    scene.wait_for(GERMAN, &sydney);
    replace(&file, &good[..good.len() / 2]);
    scene.wait_for_log("the geographic databases stay as they were");
    assert!(scene.sent_to(GERMAN, "").starts_with(&sydney));
    replace(&file, &good);
    scene.wait_for(GERMAN, &heidelberg);
}

#[test]
fn an_override_moves_a_client() {
    let scene = Scene::start();
    let (heidelberg, sydney) = (scene.network.nginx.url(), scene.network.apache.url());
    scene.wait_for(GERMAN, &heidelberg);
    let one = "geoip-overrides = [{ netblock = \"130.149.7.0/24\", country = \"AU\" }]";
    scene.configure(one);
    scene.wait_for(GERMAN, &sydney);
    assert!(
        scene.sent_to("130.149.8.1", "").starts_with(&heidelberg),
        "a neighbour stays"
    );
    scene.configure(
        "geoip-overrides = [{ netblock = \"130.149.7.0/24\", country = \"Australia\" }]",
    );
    scene.wait_for_log("the configuration stays as it was");
    assert!(scene.sent_to(GERMAN, "").starts_with(&sydney));
    scene.configure("");
    scene.wait_for(GERMAN, &heidelberg);
}

#[test]
fn a_country_asked_for_is_served_and_forbidden_ones_stay_forbidden() {
    let scene = Scene::start();
    let (heidelberg, sydney) = (scene.network.nginx.url(), scene.network.apache.url());
    for (client, query, mirror) in [
        (GERMAN, "", &heidelberg),
        (GERMAN, "?country=AU", &sydney),
        (GERMAN, "?country=nz", &sydney),
        (GERMAN, "?ns=docker.io&country=XX,au", &sydney),
        (GERMAN, "?country=Australia", &heidelberg),
        (AUSTRALIAN, "?country=FR%2CDE", &heidelberg),
    ] {
        let found = scene.sent_to(client, query);
        assert!(found.starts_with(mirror), "{client} {query}: {found}");
    }
    let (layer, _) = scene.layer();
    let metalink = scene.network.front_end.get(
        &format!("{layer}?metalink&country=AU"),
        &[(FORWARDED, GERMAN)],
    );
    let first = metalink.text();
    let first = first.split("priority=\"1\">").nth(1).unwrap();
    assert!(first.starts_with(&sydney), "{first}");

    scene.sql(
        "INSERT INTO served_country (host, country, allowed)
         SELECT id, 'DE', 0 FROM host WHERE name = 'sydney'",
    );
    let list = || scene.list(&layer, GERMAN, "&country=AU");
    crate::network::wait(|| names(&list(), "mirrors") == ["heidelberg"]);
    let list = list();
    assert_eq!(list["left-out"][0]["reason"], "country");
    assert_eq!(list["left-out"][0]["tier"], "country");
    assert_eq!(
        list["client"]["country"], "DE",
        "where it is stays what counts"
    );
    assert!(
        scene
            .sent_to(GERMAN, "?country=AU")
            .starts_with(&heidelberg)
    );
    assert!(
        scene
            .sent_to(AUSTRALIAN, "?country=AU")
            .starts_with(&sydney)
    );
}

impl Scene {
    fn list(&self, path: &str, client: &str, query: &str) -> Value {
        let fields = [("accept", "application/json"), (FORWARDED, client)];
        let path = format!("{path}?mirrorlist{query}");
        self.network.front_end.get(&path, &fields).json()
    }
}

/// The names that `mirror explain` lists, best first.
fn explained(front_end: &FrontEnd, layer: &str, client: &str, country: &str) -> Vec<String> {
    let digest = layer.rsplit('/').next().unwrap();
    let mut arguments = vec!["mirror", "explain", "--client", client, "--blob", digest];
    arguments.extend(["--repository", "debian"]);
    if !country.is_empty() {
        arguments.extend(["--country", country]);
    }
    let text = front_end.tools.run(&arguments).stdout;
    let ranked = |line: &str| {
        let mut fields = line.split_whitespace();
        let rank = fields.next()?.parse::<usize>().ok()?;
        Some((rank, fields.next()?.to_owned()))
    };
    let mut found: Vec<_> = text.lines().filter_map(ranked).collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn explain_mirrorlist_and_redirect_agree() {
    let scene = Scene::start();
    // Entries of one server: for a network of its own, for everybody, and in another country.
    scene.add_campus(&["--private", "--netblock", "130.149.7.0/24"]);
    let url = scene.network.nginx.url().replace("127.0.0.1", "localhost");
    let tools = &scene.network.front_end.tools;
    tools.add_mirror("second", &url, "FR");
    tools.add_mirror("third", &url, "US");
    tools.crawl();
    let (layer, _) = scene.layer();
    crate::network::wait(|| {
        let list = scene.list(&layer, GERMAN, "");
        let (listed, others) = (names(&list, "mirrors"), list["left-out"].as_array());
        let same = |it: &&Value| it["reason"] == "same-server";
        listed.len() == 3 && others.is_some_and(|all| all.iter().filter(same).count() == 2)
    });
    for client in [
        GERMAN,
        AUSTRALIAN,
        "130.149.8.1",
        "127.0.0.1",
        "2001:4ca0::1",
    ] {
        for country in ["", "US", "AU", "FR,AU"] {
            let case = format!("{client} {country}");
            let query = format!("&country={country}");
            let list = scene.list(&layer, client, &query);
            let listed = names(&list, "mirrors");
            let urls: Vec<&str> = list["mirrors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|mirror| mirror["url"].as_str().unwrap())
                .collect();
            assert_eq!(urls.len(), 3, "{case}: each server once: {list}");
            assert_eq!(
                explained(&scene.network.front_end, &layer, client, country),
                listed,
                "{case}"
            );
            let all = list["left-out"].as_array().unwrap();
            let other = all
                .iter()
                .filter(|it| it["reason"] == "same-server")
                .count();
            let private = list["private-mirrors"].as_u64().unwrap();
            assert_eq!(other as u64 + private, 2, "{case}: {list}");
            assert!(all.iter().all(|it| it["tier"].is_string()), "{case}");

            let fields = [(FORWARDED, client)];
            let answer = scene
                .network
                .front_end
                .get(&format!("{layer}?country={country}"), &fields);
            assert_eq!(answer.field("location"), urls[0], "{case}");
            let links: Vec<&str> = answer
                .headers
                .get_all("link")
                .iter()
                .map(|link| link.to_str().unwrap())
                .collect();
            let links = links.join(", ");
            let metalink = scene
                .network
                .front_end
                .get(&format!("{layer}?metalink{query}"), &fields);
            let metalink = metalink.text();
            for text in [&links, &metalink] {
                let places: Vec<_> = urls.iter().map(|url| text.find(url).unwrap()).collect();
                assert!(places.is_sorted(), "{case}: {text}");
            }
        }
    }
}

#[test]
fn a_blob_too_large_for_a_mirror_goes_elsewhere() {
    let scene = Scene::start();
    let (heidelberg, sydney) = (scene.network.nginx.url(), scene.network.apache.url());
    scene.wait_for(GERMAN, &heidelberg);
    let (layer, size) = scene.layer();
    let limit = |max: u64| {
        scene.sql(&format!(
            "UPDATE host SET max_blob_size = {max} WHERE name = 'heidelberg'"
        ));
    };
    limit(size - 1);
    scene.wait_for(GERMAN, &sydney);
    let list = scene.list(&layer, GERMAN, "");
    assert_eq!(list["left-out"][0]["reason"], "too-large");
    assert_eq!(list["left-out"][0]["max"], size - 1);
    assert_eq!(
        explained(&scene.network.front_end, &layer, GERMAN, ""),
        ["sydney"]
    );
    limit(size);
    scene.wait_for(GERMAN, &heidelberg);
}

#[test]
fn what_a_mirror_gains_and_loses_is_taken_up_by_itself() {
    let scene = Scene::start();
    let (heidelberg, sydney) = (scene.network.nginx.url(), scene.network.apache.url());
    let (layer, _) = scene.layer();
    let hex = layer.rsplit(':').next().unwrap();
    let file = |mirror: &str| {
        scene
            .path(mirror)
            .join("blobs/sha256")
            .join(&hex[..2])
            .join(hex)
    };
    let (at, aside) = (file("nginx"), scene.path("aside"));
    scene.wait_for(GERMAN, &heidelberg);
    for _ in 0..2 {
        fs::rename(&at, &aside).unwrap();
        scene.network.front_end.tools.crawl();
        scene.wait_for(GERMAN, &sydney);
        fs::rename(&aside, &at).unwrap();
        scene.network.front_end.tools.crawl();
        scene.wait_for(GERMAN, &heidelberg);
    }
    // Positions shift when the first goes; another that comes is no heir of it.
    scene
        .network
        .front_end
        .tools
        .run(&["mirror", "remove", "heidelberg"]);
    scene.wait_for(GERMAN, &sydney);
    let campus = scene.add_campus(&[]);
    scene.wait_for(GERMAN, &campus);
    assert!(scene.sent_to(AUSTRALIAN, "").starts_with(&sydney));
}
