//! SHA-256 as an identifier: of a token in the cache, of a key, of a key set, of an issuer entry.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A SHA-256 value.
pub(crate) type Digest = [u8; 32];

/// The digest of one text.
pub(crate) fn of(bytes: &[u8]) -> Digest {
    to_array(digest(&SHA256, bytes).as_ref())
}

/// The digest of a list of parts. Each is preceded by its length, so that moving a byte from one
/// part to the next changes the digest.
pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    to_array(context.finish().as_ref())
}

fn to_array(bytes: &[u8]) -> Digest {
    let mut array = Digest::default();
    array.copy_from_slice(bytes); // SHA-256 has exactly this length
    array
}
