#!/bin/sh
# Run after an image was built and pushed: exports that one tag, then tells the mirrors to fetch.
#
#   after-build.sh registry.example.org/fedora/fedora:43
#
# TREE     directory of the tree
# MIRRORS  accounts to tell, as ssh knows them; their key should run the mirror's own sync and nothing
#          else (command="…",restrict in authorized_keys)
set -eu

: "${TREE:=/srv/containers}"
: "${MIRRORS:=}"

if [ $# -ne 1 ]; then
    echo "usage: $0 HOST[:PORT]/NAME:TAG" >&2
    exit 2
fi

# Replaced last, and only by a run that changed something.
state() {
    if [ -e "$TREE/state.json" ]; then
        cksum <"$TREE/state.json"
    fi
}

before=$(state)
# What fails ends the script here, with the exit status of the export, and the build can be told.
mirror-tool export --tree "$TREE" --json "docker://$1"
if [ "$before" = "$(state)" ]; then
    exit 0
fi

# All at once; a mirror that cannot be told fetches at its next turn, which is no failure of the build.
for mirror in $MIRRORS; do
    timeout 60 ssh -n -o BatchMode=yes -o ConnectTimeout=10 "$mirror" sync ||
        echo "$0: $mirror was not told" >&2 &
done
wait
