//! Lenient servers' readings of a path. Without a token, none of them may read a protected path in
//! what it receives.

/// A way to read a target.
pub type Reading = fn(&str) -> String;

/// All readings, each by the name of a server that has it.
pub const READINGS: [(&str, Reading); 6] = [
    ("literal", str::to_owned),
    ("express", express),
    ("servlet", servlet),
    ("python", python),
    ("merging", merging),
    ("decoding twice", twice),
];

/// Ignores case and a trailing slash.
fn express(path: &str) -> String {
    let lower = decode(path).to_lowercase();
    match lower.strip_suffix('/') {
        Some(cut) if !cut.is_empty() => cut.to_owned(),
        _ => lower,
    }
}

/// Removes parameters, decodes, then resolves dots and empty segments.
fn servlet(path: &str) -> String {
    let cut: Vec<&str> = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect();
    resolve(&decode(&cut.join("/")))
}

/// Decodes the whole path before it is split.
fn python(path: &str) -> String {
    let decoded = decode(path);
    decoded.strip_suffix('/').unwrap_or(&decoded).to_owned()
}

/// Decodes, reads backslashes as slashes, merges slashes, resolves dots, ends at NUL.
fn merging(path: &str) -> String {
    let decoded = decode(path).replace('\\', "/");
    resolve(decoded.split('\0').next().unwrap_or_default())
}

/// A proxy and a server that both decode, the second ignoring case by way of upper case.
fn twice(path: &str) -> String {
    let once = servlet(path);
    let again = resolve(&decode(&once));
    again.to_uppercase().to_lowercase()
}

fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
