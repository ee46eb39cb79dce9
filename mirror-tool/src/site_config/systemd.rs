//! A service that follows a tree, and the timer that runs it.

use std::path::Path;

use super::Place;

/// Both units, each under a line with the file it belongs into.
pub(super) fn units(tree: &Place, pulls: Option<&Place>, from: &[String]) -> String {
    format!(
        "# /etc/systemd/system/mirror-sync.service\n{}\n# /etc/systemd/system/mirror-sync.timer\n{TIMER}",
        service(tree, pulls, from)
    )
}

fn service(tree: &Place, pulls: Option<&Place>, from: &[String]) -> String {
    let tree_word = word(&tree.to_string());
    let mut command = format!("mirror-tool sync --tree {tree_word}");
    for source in from {
        command.push_str(" --from ");
        command.push_str(&word(source));
    }
    let mut directories = tree_word;
    if let Some(directory) = pulls {
        let directory = word(&directory.to_string());
        command.push_str(" --static-v2 ");
        command.push_str(&directory);
        directories.push(' ');
        directories.push_str(&directory);
    }
    let mut needed = vec![tree.path()];
    needed.extend(pulls.map(Place::path));
    let files = from.iter().filter_map(|it| it.strip_prefix("file://"));
    needed.extend(files.map(Path::new));
    // What is needed in one of these would be hidden from the service too.
    let is_in = |tops: &[&str]| {
        let mut pairs = needed
            .iter()
            .flat_map(|it| tops.iter().map(move |top| (it, top)));
        pairs.any(|(path, top)| path.starts_with(top))
    };
    let mut hidden = String::new();
    if !is_in(&["/home", "/root", "/run"]) {
        hidden.push_str("ProtectHome=yes\n");
    }
    if !is_in(&["/tmp", "/var/tmp"]) {
        hidden.push_str("PrivateTmp=yes\n");
    }
    format!(
        "[Unit]
Description=Follow a tree of container images
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
# useradd --system mirror; not the account of a server, so that nobody who breaks into one can change the tree.
User=mirror
ExecStartPre=+install -d -o mirror {directories}
# A private mirror, which nobody can crawl, says what it holds: --report https://FRONTEND --token-file FILE
ExecStart={command}
# 4: the tree is followed, and something beside it was left; the journal names it.
SuccessExitStatus=4
Nice=10
IOSchedulingClass=idle

ReadWritePaths={directories}
ProtectSystem=strict
{hidden}UMask=0022
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"
    )
}

/// A run that finds nothing new costs the other side one small file, so it may come often.
const TIMER: &str = "[Unit]
Description=Follow a tree of container images every ten minutes

[Timer]
OnCalendar=*:0/10
# Not all mirrors at once.
RandomizedDelaySec=5min
Persistent=true

[Install]
WantedBy=timers.target
";

/// A word of a command line, or a path of a list, as systemd reads it.
fn word(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '%' => escaped.push_str("%%"),
            '$' => escaped.push_str("$$"),
            '"' | '\\' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    if escaped == text
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/:.@_-+=,~".contains(c))
    {
        escaped
    } else {
        format!("\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_they_must_be() {
        for (text, expected) in [
            ("/srv/containers", "/srv/containers"),
            ("rsync://h:873/m/p", "rsync://h:873/m/p"),
            ("/srv/my mirrors", "\"/srv/my mirrors\""),
            ("https://h/a%20b?c=$d", "\"https://h/a%%20b?c=$$d\""),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn the_service_sees_what_it_needs_wherever_it_is() {
        let place = |path: &str| Place::try_from(std::path::PathBuf::from(path)).unwrap();
        for (tree, pulls, from, home, tmp) in [
            ("/srv/containers", "/srv/v2", "file:///mnt/disk", true, true),
            ("/home/m/tree", "/srv/v2", "file:///mnt/disk", false, true),
            ("/var/tmp/tree", "/srv/v2", "file:///mnt/disk", true, false),
            ("/srv/tree", "/home/m/v2", "file:///mnt/disk", false, true),
            ("/srv/tree", "/srv/v2", "file:///tmp/disk", true, false),
            (
                "/srv/tree",
                "/srv/v2",
                "file:///run/media/disk",
                false,
                true,
            ),
        ] {
            let (tree, pulls) = (place(tree), place(pulls));
            let text = service(&tree, Some(&pulls), &[from.to_owned()]);
            assert_eq!(text.contains("ProtectHome=yes"), home, "{tree}");
            assert_eq!(text.contains("PrivateTmp=yes"), tmp, "{tree}");
            assert!(text.contains(&format!("ReadWritePaths={tree} {pulls}\n")));
        }
    }
}
