//! The metrics of the admin listener.

use std::io::{Read, Write};
use std::net::TcpStream;

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Scrapes the admin listener at `http://ADDRESS`.
    pub fn scrape(admin: &str) -> Self {
        let (status, text) = get(admin, "/metrics");
        assert_eq!(status, 200, "{text}");
        Self(text)
    }

    /// The sum of all samples of this name that have all these labels; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .lines()
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (found, rest) = series.split_once('{').unwrap_or((series, ""));
                let fits = found == name
                    && labels
                        .iter()
                        .all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")));
                fits.then(|| value.parse::<f64>().ok()).flatten()
            })
            .sum()
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A GET in clear text: status and body.
pub fn get(url: &str, path: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer
        .get(9..12)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}
