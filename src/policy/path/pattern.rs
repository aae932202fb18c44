//! Path patterns of the route map.

use super::escape::encode;
use super::{canonical_segment, fold};
use crate::policy::resources::ParamType;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this canonical text.
    Literal(String),
    /// Any one segment, with a name.
    Parameter {
        /// The name in the route map.
        name: String,
        /// The type that the segment must have.
        kind: ParamType,
    },
    /// One or more segments up to the end, `{*name}`.
    Tail,
}

/// A path pattern of the route map: `/projects/{project_id:uuid}/files/{*rest}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// What to write instead, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("a path begins with `/`".to_owned());
        };
        let mut segments = Vec::new();
        if !path.is_empty() {
            let mut parts = path.split('/').peekable();
            while let Some(part) = parts.next() {
                if part.is_empty() {
                    return Err(match parts.peek() {
                        None => "write the path without its trailing slash; `trailing_slash` decides whether a request may have one".to_owned(),
                        Some(_) => "a path has no empty segments".to_owned(),
                    });
                }
                let segment = Segment::parse(part)?;
                if segment == Segment::Tail && parts.peek().is_some() {
                    return Err(format!("`{part}` must be the last segment"));
                }
                segments.push(segment);
            }
        }
        let pattern = Self {
            text: text.to_owned(),
            segments,
        };
        let mut names: Vec<&str> = pattern.parameters().collect();
        names.sort_unstable();
        if names
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if one == other))
        {
            return Err("two parameters have the same name".to_owned());
        }
        Ok(pattern)
    }

    /// The text of the pattern in the route map.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments, in order; none for `/`.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether the pattern ends in `{*rest}`.
    pub fn has_tail(&self) -> bool {
        self.segments.last() == Some(&Segment::Tail)
    }

    /// Whether some parameter has another type than text.
    pub fn is_typed(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| matches!(segment, Segment::Parameter { kind, .. } if *kind != ParamType::Text))
    }

    /// Whether every segment is literal.
    pub fn is_literal(&self) -> bool {
        self.segments
            .iter()
            .all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// The names of the parameters, without the tail.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter { name, .. } => Some(name.as_str()),
            Segment::Literal(_) | Segment::Tail => None,
        })
    }

    /// The pattern for the router, in which parameters are named by their position: two patterns
    /// with the same shape match the same paths. With `folded`, literals are folded as [`fold()`]
    /// folds paths.
    pub fn shape(&self, folded: bool) -> String {
        let mut shape = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            shape.push('/');
            match segment {
                Segment::Literal(text) if folded => match fold(&format!("/{text}")) {
                    Some(folded) => shape.push_str(folded.trim_start_matches('/')),
                    None => shape.push_str(text),
                },
                Segment::Literal(text) => shape.push_str(text),
                Segment::Parameter { .. } => shape.push_str(&format!("{{p{index}}}")),
                Segment::Tail => shape.push_str("{*tail}"),
            }
        }
        if shape.is_empty() {
            shape.push('/');
        }
        shape
    }
}

impl Segment {
    fn parse(part: &str) -> Result<Self, String> {
        let Some(inner) = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        else {
            return Self::parse_literal(part);
        };
        if let Some(name) = inner.strip_prefix('*') {
            return match is_name(name) {
                true => Ok(Self::Tail),
                false => Err(format!(
                    "`{part}`: write a name behind the `*`, such as `{{*rest}}`"
                )),
            };
        }
        let (name, kind) = inner.split_once(':').unwrap_or((inner, "text"));
        if !is_name(name) {
            return Err(format!(
                "`{part}`: a parameter's name has letters, digits and `_`"
            ));
        }
        let Some(kind) = ParamType::of_path(kind) else {
            return Err(format!("`{part}`: the type is `uuid`, `int` or `text`"));
        };
        Ok(Self::Parameter {
            name: name.to_owned(),
            kind,
        })
    }

    fn parse_literal(part: &str) -> Result<Self, String> {
        if part.contains(['{', '}']) {
            return Err(format!(
                "`{part}`: a parameter is a whole segment, such as `{{id:uuid}}`"
            ));
        }
        // The route map may have plain letters of any script; their canonical encoding is matched.
        let raw: String = part
            .chars()
            .map(|character| {
                if character.is_ascii() {
                    character.to_string()
                } else {
                    encode(character.to_string().as_bytes())
                }
            })
            .collect();
        match canonical_segment(&raw) {
            Ok(Ok(text)) => Ok(Self::Literal(text)),
            Ok(Err(reason)) | Err(reason) => Err(format!(
                "`{part}` can never be requested: {}",
                reason.meaning()
            )),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
