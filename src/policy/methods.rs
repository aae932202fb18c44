//! A small set of the methods that a route may list. HEAD comes with GET.

use hyper::Method;

/// The methods that can be routed, in the order `Allow` lists them. CONNECT and TRACE are never
/// served.
pub const ROUTABLE: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// Every routable method.
    pub const ALL: Self = Self(0b111_1111);

    /// The set with `method` added; GET adds HEAD (RFC 9110, section 9.3.2). `None` if the method
    /// cannot be routed.
    #[must_use]
    pub fn with(self, method: &Method) -> Option<Self> {
        let bit = bit(method)?;
        let implied = if *method == Method::GET { bit << 1 } else { 0 };
        Some(Self(self.0 | bit | implied))
    }

    /// Whether `method` is in the set.
    pub fn contains(self, method: &Method) -> bool {
        bit(method).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether the two sets share a method.
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The methods of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members, in the order of [`ROUTABLE`].
    pub fn iter(self) -> impl Iterator<Item = &'static Method> {
        static METHODS: [Method; 7] = ROUTABLE;
        METHODS.iter().filter(move |method| self.contains(method))
    }
}

fn bit(method: &Method) -> Option<u8> {
    ROUTABLE
        .iter()
        .position(|known| known == method)
        .map(|index| 1 << index)
}

impl std::fmt::Display for Methods {
    /// As `Allow` writes it: `GET, HEAD, POST`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, method) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(method.as_str())?;
        }
        Ok(())
    }
}
