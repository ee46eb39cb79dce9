//! Docker Hub: the one registry that is named one way, reached another, and logged in a third.

use std::borrow::Cow;

use crate::reference::{ImageRef, RegistryHost, RepoName};

/// The key under which docker keeps the login for its Hub.
pub(super) const LOGIN_KEY: &str = "https://index.docker.io/v1/";

/// The host that serves `docker.io`.
const API_HOST: &str = "registry-1.docker.io";

/// Whether `host` is one of the Hub's names.
pub(super) fn is_hub(host: &RegistryHost) -> bool {
    ["docker.io", "index.docker.io", API_HOST].contains(&host.as_str())
}

/// The host to connect to for `registry`.
pub(super) fn api_host(registry: &RegistryHost) -> &str {
    if is_hub(registry) {
        API_HOST
    } else {
        registry.as_str()
    }
}

/// The name under which a registry knows `image`: the Hub keeps names without a slash in `library/`.
///
/// ```
/// use oci_mirror::registry::hub::canonical;
/// let image = canonical("docker.io/fedora:43".parse().unwrap());
/// assert_eq!(image.to_string(), "docker.io/library/fedora:43");
/// ```
pub fn canonical(image: ImageRef) -> ImageRef {
    let name = canonical_name(&image.registry, &image.name).into_owned();
    ImageRef { name, ..image }
}

pub(super) fn canonical_name<'a>(registry: &RegistryHost, name: &'a RepoName) -> Cow<'a, RepoName> {
    if is_hub(registry) && name.components().count() == 1 {
        // Only a name of nearly 255 bytes can fail to parse; the Hub then answers that it has none.
        if let Ok(name) = format!("library/{name}").parse() {
            return Cow::Owned(name);
        }
    }
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_names_of_the_hub_change() {
        for (given, canonical_form) in [
            ("docker.io/fedora", "docker.io/library/fedora"),
            ("index.docker.io/fedora", "index.docker.io/library/fedora"),
            ("docker.io/grafana/grafana", "docker.io/grafana/grafana"),
            ("quay.io/fedora", "quay.io/fedora"),
        ] {
            assert_eq!(
                canonical(given.parse().unwrap()).to_string(),
                canonical_form
            );
        }
        assert_eq!(api_host(&"docker.io".parse().unwrap()), API_HOST);
        assert_eq!(
            api_host(&"localhost:5000".parse().unwrap()),
            "localhost:5000"
        );
    }
}
