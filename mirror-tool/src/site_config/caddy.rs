//! A site of Caddy.

use super::{HostName, Place};

/// The site of a mirror.
pub(super) fn site(tree: &Place, host: &HostName) -> String {
    format!(
        r#"# A mirror of container images. For /etc/caddy/Caddyfile. Both are served: whoever cannot do TLS may come without.
# How many connections an address may have is for the packet filter to say: Caddy does not count them.
http://{host}, https://{host} {{
	root * "{tree}"

	# Named by its digest: never changes. The rest does.
	@content path_regexp ^/(?:(?:blobs|pieces)/sha(?:256|512)/[0-9a-f][0-9a-f]|repos/.+/blobs/sha(?:256|512))/[0-9a-f]+$
	@rest not path_regexp ^/(?:(?:blobs|pieces)/sha(?:256|512)/[0-9a-f][0-9a-f]|repos/.+/blobs/sha(?:256|512))/[0-9a-f]+$
	header @content {{
		Cache-Control "public, max-age=31536000, immutable"
		Content-Type application/octet-stream
	}}
	header @rest Cache-Control "max-age=0, must-revalidate"
	handle_errors {{
		header -Cache-Control
		respond "{{err.status_code}} {{err.status_text}}"
	}}

	@write not method GET HEAD
	error @write 405
	# No `encode`: blobs have been compressed, and are wrong if they are compressed again.
	file_server {{
		# What rsync has not finished.
		hide .~tmp~
	}}
	# With what was really sent, and which part was asked for.
	log {{
		output file /var/log/caddy/{host}.log
	}}
}}
"#
    )
}
