//! Where an upstream may send us.
//!
//! Content is compared with its digest wherever it comes from, so a redirect can do no harm to the tree. But the
//! request itself may: it comes from inside the network of the mirror, where a stranger has no business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::redirect::Policy;
use url::{Host, Url};

/// Most redirects followed.
const MOST: usize = 5;

/// The policy of a client that speaks TLS.
pub(super) fn policy() -> Policy {
    Policy::custom(|attempt| match judge(attempt.previous(), attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    })
}

/// The policy of a client that does not: where it would have to, the redirect itself is the answer.
pub(super) fn policy_of_plain() -> Policy {
    Policy::custom(|attempt| match judge(attempt.previous(), attempt.url()) {
        Ok(()) if attempt.url().scheme() == "https" => attempt.stop(),
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    })
}

/// Whether we go on to `next`, after what was asked before.
pub(super) fn judge(previous: &[Url], next: &Url) -> Result<(), &'static str> {
    let (Some(first), Some(last)) = (previous.first(), previous.last()) else {
        return Ok(());
    };
    if previous.len() > MOST {
        Err("too many redirects")
    } else if last.scheme() == "https" && next.scheme() != "https" {
        Err("redirect from https to plain http")
    } else if is_inside(next) && !is_inside(first) {
        Err("redirect to an address inside of this network")
    } else {
        Ok(())
    }
}

/// Whether a URL names something that means another machine, or none, to everybody else.
fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => is_inside_v4(address),
        Some(Host::Ipv6(address)) => match IpAddr::V6(address).to_canonical() {
            IpAddr::V4(address) => is_inside_v4(address),
            IpAddr::V6(address) => is_inside_v6(address),
        },
        None => true,
    }
}

fn is_inside_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // The last is shared address space, RFC 6598.
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || first == 0
        || (first == 100 && (64..128).contains(&second))
}

fn is_inside_v6(address: Ipv6Addr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn outsiders_do_not_send_us_inside() {
        for (first, next, good) in [
            (
                "https://front.example/tree/",
                "https://mirror.example/x",
                true,
            ),
            (
                "http://front.example/tree/",
                "https://mirror.example/x",
                true,
            ),
            ("http://front.example/tree/", "http://93.184.216.34/x", true),
            (
                "https://front.example/tree/",
                "http://mirror.example/x",
                false,
            ),
            ("http://front.example/tree/", "http://127.0.0.1/x", false),
            (
                "http://front.example/tree/",
                "http://localhost:8080/x",
                false,
            ),
            (
                "http://front.example/tree/",
                "http://169.254.169.254/x",
                false,
            ),
            ("http://front.example/tree/", "http://10.0.0.1/x", false),
            ("http://front.example/tree/", "http://100.64.0.1/x", false),
            ("http://front.example/tree/", "http://0.0.0.0/x", false),
            ("http://front.example/tree/", "http://[::1]/x", false),
            (
                "http://front.example/tree/",
                "http://[::ffff:10.0.0.1]/x",
                false,
            ),
            ("http://front.example/tree/", "http://[fd00::1]/x", false),
            ("http://front.example/tree/", "http://[fe80::1]/x", false),
            ("http://10.0.0.2/tree/", "http://10.0.0.1/x", true),
        ] {
            assert_eq!(
                judge(&[url(first)], &url(next)).is_ok(),
                good,
                "{first} {next}"
            );
        }
    }

    #[test]
    fn a_circle_ends() {
        let previous = vec![url("http://a.example/"); MOST + 1];
        assert!(judge(&previous[..MOST], &previous[0]).is_ok());
        assert!(judge(&previous, &previous[0]).is_err());
    }
}
