//! What else clients do, tried at mirrors that get it wrong.

use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::probe::probe;
use registry_proxy::db::ProbeName::{Encoding, Ipv4, Ipv6, Range, Tls};
use registry_proxy::db::ProbeResult::{self, Absent, Failed, Passed, Unknown};
use registry_proxy::db::{Probe, ProbeName};

use super::{pace, wire};
use crate::bench::{Bench, large_layer, name, path};
use crate::hostile_mirror::{Fault, HostileMirror};

async fn tried(bench: &Bench, base: &str) -> Vec<Probe> {
    let host = bench.database().host(&name("m")).unwrap().host;
    let layer = large_layer();
    let url = format!("{base}{}", path(&layer));
    let with = (&*url, bench.size(&layer));
    probe(&wire(), &host, Policy::Any, pace(), &ProbeName::ALL, with).await
}

#[track_caller]
fn result(probes: &[Probe], name: ProbeName) -> (ProbeResult, &str) {
    let probe = probes.iter().find(|probe| probe.name == name).unwrap();
    (probe.result, &probe.detail)
}

#[tokio::test]
async fn a_good_mirror_passes() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let probes = tried(&bench, &mirror.url()).await;
    for (name, expected) in [
        (Tls, Absent),
        (Ipv4, Passed),
        (Ipv6, Absent),
        (Range, Passed),
        (Encoding, Passed),
    ] {
        assert_eq!(result(&probes, name).0, expected, "{probes:?}");
    }
    let by_name = format!("http://localhost:{}", mirror.address.port());
    let probes = tried(&bench, &by_name).await;
    assert_eq!(result(&probes, Ipv4).0, Passed, "{probes:?}");
}

#[tokio::test]
async fn a_mirror_that_answers_only_at_its_other_address_fails_there() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let literal = format!("http://[::1]:{}", mirror.address.port());
    let probes = tried(&bench, &literal).await;
    let (ipv6, why) = result(&probes, Ipv6);
    // Where there is no IPv6 at all, that is ours.
    assert!(matches!(ipv6, Failed | Unknown), "{probes:?}");
    assert!(!why.is_empty());
    assert_eq!(result(&probes, Ipv4).0, Absent, "{probes:?}");
}

#[tokio::test]
async fn what_clients_cannot_do_with_fails_and_what_was_not_answered_is_unknown() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    for (fault, name, expected, why) in [
        (Fault::NoRanges, Range, Failed, "answers Range with 200"),
        (Fault::OtherContentRange, Range, Failed, "Content-Range"),
        (Fault::Multipart, Range, Failed, "206 without"),
        (Fault::EndlessPart, Range, Failed, "more than"),
        (Fault::Stall, Range, Unknown, ""),
        (Fault::Status(503), Range, Unknown, "503"),
        (
            Fault::EncodedIfUnderstood,
            Encoding,
            Failed,
            "Content-Encoding `gzip`",
        ),
        (Fault::EncodedIfUnderstood, Range, Passed, ""),
        (Fault::Status(503), Encoding, Unknown, "503"),
        (Fault::Close, Encoding, Unknown, "connection"),
        (Fault::Close, Ipv4, Failed, "connection"),
        (Fault::Silent, Range, Unknown, ""),
    ] {
        mirror.heal();
        mirror.fail_everywhere(fault.clone());
        let probes = tried(&bench, &mirror.url()).await;
        let (found, said) = result(&probes, name);
        assert_eq!(found, expected, "{fault:?}: {probes:?}");
        assert!(said.contains(why), "{fault:?}: {said}");
    }
    assert!(mirror.sent() < 64 << 20, "{}", mirror.sent());
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_where_it_should_fails() {
    let bench = Bench::new();
    let mirror = bench.mirror("m").await;
    let probes = tried(&bench, &mirror.url().replace("http:", "https:")).await;
    assert_eq!(result(&probes, Tls).0, Failed, "{probes:?}");

    let refused = {
        let gone = HostileMirror::start(&bench.tree()).await;
        gone.url().replace("http:", "https:")
    };
    let probes = tried(&bench, &refused).await;
    let (tls, why) = result(&probes, Tls);
    assert_eq!(
        (tls, why.contains("tcp connect error")),
        (Unknown, true),
        "{probes:?}"
    );
}
