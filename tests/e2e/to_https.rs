//! A tree that is followed by an `http` URL, of a server that sends everybody to `https`.

use support::peer::authority::Authority;
use support::peer::{free_address, nginx};
use support::process::run;

use crate::network::{fails, program, tree, verify};

#[test]
fn whoever_is_sent_to_https_goes_there_and_looks_at_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("authority")).unwrap();
    let (plain, tls) = (free_address().unwrap(), free_address().unwrap());
    let site = format!(
        "server {{ listen {plain}; return 301 https://{tls}$request_uri; }}
         server {{ listen {tls} ssl; {} root \"{}\"; }}",
        authority.nginx_settings(),
        tree().display(),
    );
    let server = nginx::start_site(&site, plain, &directory.path().join("nginx")).unwrap();
    let mirror = directory.path().join("mirror");
    let sync = |trust: &[&str]| {
        let mut sync = program("mirror-tool");
        sync.args(["sync", "--retries=0", "--from", &format!("http://{plain}/")])
            .arg("--tree")
            .arg(&mirror)
            .args(trust);
        sync
    };
    let (_, failure) = fails(&mut sync(&[]));
    let said = failure.to_string();
    assert!(said.contains("certificate"), "{said}");
    let certificate = authority.certificate();
    let trust = ["--tls-ca", certificate.to_str().unwrap()];
    run(&mut sync(&trust)).unwrap();
    run(&mut verify(&mirror)).unwrap();
    let asked = server.requests().unwrap().len();
    run(&mut sync(&trust)).unwrap();
    // For the state, here and there.
    assert_eq!(server.requests().unwrap().len(), asked + 2);
}
