//! Modules of an rsync daemon.

use oci_mirror::tree::path::Module;

use super::Place;

/// The module of a tree whose list is called `list`, and that of the directory above it.
pub(super) fn modules(
    tree: &Place,
    module: &Module,
    list: &Module,
    max_connections: u32,
) -> String {
    let habits = format!(
        "    read only = yes
    # Nobody's: not those of the account that follows the tree.
    uid = 65534
    gid = 65534
    ignore nonreadable = yes
    # A checksum run reads every byte of the tree for one client.
    refuse options = checksum
    dont compress = *
    max connections = {max_connections}
    timeout = 900
    transfer logging = yes
"
    );
    let above = above(tree, list, &habits);
    format!(
        "# For /etc/rsyncd.conf. Offers the tree to mirrors:
# mirror-tool sync --from rsync://HOST/{module} --tree DIR, or rsync -aH --delay-updates --delete-delay rsync://HOST/{module}/ DIR/

# This line belongs above all modules. Without it, each short answer waits until the one before it has been
# acknowledged, for 40 ms.
socket options = TCP_NODELAY

[{module}]
    comment = Container images
    path = {tree}
    list = yes
    exclude = .~tmp~/
{habits}{above}"
    )
}

/// Whether a module cannot be called so: the daemon keeps its own settings under one name, and the other is
/// that of the directory above.
pub(super) fn is_taken(module: &Module) -> bool {
    let name = module.to_string();
    ["above", "global"]
        .iter()
        .any(|taken| name.eq_ignore_ascii_case(taken))
}

/// What quick-fedora-mirror follows: it wants to name the directory of the tree itself, by the name of the list.
fn above(tree: &Place, list: &Module, habits: &str) -> String {
    let name = tree.path().file_name().and_then(|name| name.to_str());
    let parent = tree.path().parent().map(std::path::Path::display);
    let name_of_list = list.to_string();
    match (name, parent) {
        (Some(name), Some(parent)) if name == name_of_list => format!(
            "
# The directory above, of which nothing but the tree is shown, for quick-fedora-mirror: MASTERMODULE=above,
# MODULES=({list}), MODULEMAPPING=({list} {list}), EXTRAFILES=()
[above]
    path = {parent}
    list = no
    filter = - .~tmp~/  + /{list}/***  - *
{habits}"
        ),
        _ => format!(
            "
# quick-fedora-mirror cannot follow this: for it, the directory would have to be called `{list}`, as the list is.
"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_is_not_called_as_its_list_has_no_module_above() {
        let list = Module::default();
        for (tree, has_module) in [
            ("/srv/containers", true),
            ("/srv/con tainers", false),
            ("/srv/oci", false),
        ] {
            let tree = std::path::PathBuf::from(tree).try_into().unwrap();
            let text = modules(&tree, &"images".parse().unwrap(), &list, 7);
            assert_eq!(text.contains("[above]"), has_module, "{text}");
            assert!(text.contains("[images]") && text.contains("max connections = 7"));
            // A daemon takes no notice of it in a module, or in a section called `global`.
            let (above, _) = text.split_once("\n[").unwrap();
            assert!(above.contains("\nsocket options = TCP_NODELAY\n"));
        }
    }
}
