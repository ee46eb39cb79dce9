//! What an operator sees of requests, and what nobody does: metrics, the log, statistics.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::http;
use crate::network::{GERMAN, Network};
use crate::served::{MANIFEST, Served, tree};

/// The value of a sample on the page, 0 if it has none.
fn sample(page: &str, name: &str) -> u64 {
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn requests_are_counted_by_what_came_of_them_and_redirects_by_mirror() {
    let network = Network::start();
    let (layer, size) = network.front_end.largest_layer("debian", "12");
    let metrics = || network.front_end.get("/metrics", &[]);
    let before = metrics().text();
    for _ in 0..3 {
        let answer = network
            .front_end
            .get(&layer, &[("x-forwarded-for", GERMAN)]);
        assert_eq!(answer.status, 302);
    }
    network.front_end.get(&format!("{layer}?metalink"), &[]);
    network.front_end.get("/v2/debian/manifests/absent", &[]);
    network.front_end.get("/v2/debian/manifests/12", &[]);
    let state = network.front_end.get("/tree/state.json", &[]);
    let after = metrics();
    assert!(
        after
            .field("content-type")
            .starts_with("application/openmetrics-text")
    );
    let after = after.text();
    let grown = |name: &str| sample(&after, name) - sample(&before, name);
    for (labels, count) in [
        ("kind=\"blob\",outcome=\"redirect\"", 3),
        ("kind=\"blob\",outcome=\"metalink\"", 1),
        ("kind=\"tag\",outcome=\"not-found\"", 1),
        ("kind=\"tag\",outcome=\"content\"", 1),
        ("kind=\"tree\",outcome=\"content\"", 1),
        // The one before this.
        ("kind=\"page\",outcome=\"content\"", 1),
    ] {
        let name = format!("registry_proxy_requests_total{{{labels}}}");
        assert_eq!(grown(&name), count, "{name}");
    }
    assert_eq!(
        grown("registry_proxy_redirected_bytes_total{kind=\"blob\"}"),
        3 * size
    );
    assert_eq!(
        grown("registry_proxy_origin_bytes_total{kind=\"tree\"}"),
        state.body.len() as u64
    );
    let to_mirrors: Vec<u64> = ["heidelberg", "sydney"]
        .iter()
        .map(|name| {
            grown(&format!(
                "registry_proxy_redirects_total{{mirror=\"{name}\"}}"
            ))
        })
        .collect();
    assert!(to_mirrors.contains(&3), "{to_mirrors:?} {after}");
    assert_eq!(sample(&after, "registry_proxy_ready"), 1);
    assert_eq!(sample(&after, "registry_proxy_mirrors_active"), 2);
    assert!(sample(&after, "registry_proxy_tree_blobs") > 5);
    assert!(
        after.contains("registry_proxy_answer_duration_seconds_bucket{le=\"+Inf\",kind=\"blob\"}")
    );
    assert!(after.ends_with("# EOF\n"), "{after}");
    assert!(!after.contains(GERMAN));
}

/// The lines of the log about requests.
fn lines(served: &Served) -> Vec<Value> {
    let log = served.process.log().unwrap();
    let objects = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects
        .filter(|line| line["target"] == "registry_proxy::access")
        .collect()
}

#[test]
fn a_request_is_logged_as_asked_and_names_its_client_only_if_told_to() {
    let mut served = Served::start("[log]\nformat = \"json\"\n");
    http::get(&served.url(MANIFEST), &[]);
    http::get(&served.url("/v2/test/manifests/absent"), &[]);
    assert_eq!(lines(&served), [] as [Value; 0]);

    served.configure("[log]\nformat = \"json\"\nrequests = \"all\"\n");
    served.signal(Signal::HUP);
    served.wait_for_log("up to date");
    http::get(&served.url(&format!("{MANIFEST}?secret")), &[]);
    served.wait_for_log("registry_proxy::access");
    let line = &lines(&served)[0];
    let fields = &line["fields"];
    let field = |name: &str| {
        if fields.is_null() {
            &line[name]
        } else {
            &fields[name]
        }
    };
    assert_eq!(field("path"), MANIFEST);
    assert_eq!(field("status"), 200);
    assert_eq!(field("kind"), "tag");
    let log = served.process.log().unwrap();
    assert!(
        !log.contains("secret") && !line.to_string().contains("127.0.0.1"),
        "{log}"
    );

    served.configure(
        "[log]\nformat = \"json\"\nrequests = \"all\"\nclient-addresses = true\nlevel = \"info\"\n",
    );
    served.signal(Signal::HUP);
    let logged = lines(&served).len();
    for _ in 0..200 {
        http::get(&served.url("/tree/state.json"), &[]);
        if lines(&served)[logged..]
            .iter()
            .any(|line| line.to_string().contains("127.0.0.1"))
        {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("no line names the client");
}

#[test]
fn statistics_are_handed_over_at_the_end_without_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("statistics.jsonl");
    let config = format!("[statistics]\nfile = \"{}\"\n", file.display());
    let mut served = Served::start_in(directory, &config);
    let (_, layer) = tree();
    for path in [MANIFEST, layer, "/v2/test/manifests/absent"] {
        http::get(&served.url(path), &[]);
    }
    served.signal(Signal::TERM);
    served.wait_for_end();
    let text = fs::read_to_string(&file).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let pulls = report["pulls"].as_array().unwrap();
    assert_eq!(pulls.len(), 1, "{text}");
    for (field, value) in [
        ("tags", 1),
        ("manifests", 1),
        ("blobs", 1),
        ("redirects", 0),
    ] {
        assert_eq!(pulls[0][field], value, "{field}: {text}");
    }
    assert_eq!(pulls[0]["repository"], "test");
    assert_eq!(report["dropped"], 0);
    assert!(!text.contains("127.0.0.1"), "{text}");
}
