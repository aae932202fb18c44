//! A real browser, headless, with two sites and the gateway: a page of one signs in with a cookie,
//! a page of the other tries to use it.
//!
//! What the browser does is in `tests/browser/drive.mjs`; what reached the servers behind the
//! gateway is checked here. `tests/all.sh` installs the browser and its driver; without them the
//! test prints a warning and proves nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::streams::socket::Sockets;
use crate::support::auth_server::{Options, PUBLISHABLE};
use crate::support::client::Door;
use crate::support::{AuthServer, Gateway, Http, Origin, RedisServer, Reply, eventually};

const EMAIL: &str = "ada@example.test";
const PASSWORD: &str = "correct horse battery";

/// How long the browser may take in total. Half of it is waiting for a token to expire; the machine
/// may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

const PAGE: &str = "<!doctype html><title>a page</title><body>a page</body>";

/// The path of the browser, if it and its driver are installed.
fn chromium() -> Option<PathBuf> {
    let is_driven = folder().join("node_modules/playwright-core").is_dir();
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let usual = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let found = named.into_iter().chain(usual.map(PathBuf::from));
    found.into_iter().find(|path| is_driven && path.exists())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// The host of a gateway under another name.
fn named(gateway: &Gateway, name: &str) -> String {
    let (_, port) = gateway.address(Door::Tls).rsplit_once(':').unwrap();
    format!("https://{name}:{port}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_origin_signs_in_with_a_cookie_that_no_other_site_can_use() {
    let Some(chromium) = chromium() else {
        eprintln!(
            "NOT PROVEN: no browser. `apt-get install chromium`, and `npm ci` in {}",
            folder().display()
        );
        assert!(
            std::env::var_os("FOREGATE_NEEDS_BROWSER").is_none(),
            "FOREGATE_NEEDS_BROWSER is set, and there is no browser"
        );
        return;
    };
    // The two sites: they show a page under either name.
    let pages = Origin::start();
    pages.otherwise(|exchange| {
        exchange.reply(&Reply::ok().header("content-type", "text/html").body(PAGE));
    });
    let sites = Gateway::before(pages, |config| {
        config.routes("- { path: \"/{*rest}\", access: public }");
    })
    .await;
    let auth = AuthServer::with(Options {
        lifetime: 4,
        ..Options::default()
    });
    auth.add_user(EMAIL, PASSWORD);
    let redis = RedisServer::start();
    let sockets = Sockets::start();
    let app = named(&sites, "app.api.test");
    let tokens = auth
        .tokens()
        .replace("algorithms:", "leeway: 0s, algorithms:");
    let gateway = Gateway::with(|config| {
        config
            .store(&redis.url())
            .set("identity", &auth.identity(""))
            .set("tokens", &tokens)
            // Browsers send the cookie from every site, so that it is the gateway that refuses.
            .set("sessions", "{ same_site: none }")
            .set("cors", &format!("{{ origins: [\"{app}\"], credentials: true }}"))
            .upstream("sockets", &sockets.url(), "")
            .routes(
                r#"
                - { path: /page, access: user, credentials: [cookie] }
                - { path: /second, access: user, credentials: [cookie], aal: aal2 }
                - { path: "/auth/v1/{*rest}", access: optional, credentials: [bearer, cookie], serve: identity_server, errors: gotrue }
                - { path: /ws, methods: [GET], access: user, credentials: [cookie], upstream: sockets, upgrade: [websocket] }
                "#,
            );
    })
    .await;
    eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
    let api = named(&gateway, "api.test");
    let scratch = tempfile::tempdir().unwrap();
    let (said, complained) = (
        scratch.path().join("said"),
        scratch.path().join("complained"),
    );
    let mut driver = Command::new("node")
        .arg("drive.mjs")
        .current_dir(folder())
        .env("API", &api)
        .env("APIKEY", PUBLISHABLE)
        .env("APP", format!("{app}/app"))
        .env("EVIL", format!("{}/evil", named(&sites, "evil.test")))
        .env("SOCKET", format!("{}/ws", api.replace("https:", "wss:")))
        .env("EMAIL", EMAIL)
        .env("PASSWORD", PASSWORD)
        .env("CHROMIUM", chromium)
        .stdin(Stdio::null())
        .stdout(File::create(&said).unwrap())
        .stderr(File::create(&complained).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = driver.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > PATIENCE {
            let _ = driver.kill();
            let _ = driver.wait();
            break None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let told = std::fs::read_to_string(&said).unwrap();
    let complaint = std::fs::read_to_string(&complained).unwrap();
    let is_good = ended.is_some_and(|status| status.success());
    assert!(is_good, "{ended:?}\n{told}\n{complaint}");
    assert!(told.ends_with("done\n"), "{told}");

    let seen = gateway.origin.take();
    let changes = seen.iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(changes, 3, "those of the page, and no other");
    for seen in &seen {
        assert_eq!(seen.header("cookie"), None);
        assert_ne!(
            seen.header("origin"),
            Some(named(&sites, "evil.test").as_str())
        );
    }
    assert_eq!(sockets.partings().len(), 1, "only the page's");
    assert!(auth.calls("refresh_token") >= 1);
    let refused = |reason| {
        let labels = [("reason", reason)];
        gateway.metrics().sum("foregate_requests_total", &labels)
    };
    // The forms were sent with the cookie. Scripts and sockets of another site may have been sent
    // without it: the browser decides that.
    assert!(refused("csrf_origin") >= 2.0, "{}", refused("csrf_origin"));
    assert_eq!(refused("csrf_token"), 1.0);
    let text = gateway.log().text();
    assert!(!text.contains(PASSWORD) && !text.contains(EMAIL));
    // Nobody is signed in any more.
    let answer = gateway.get(Http::Two, "/page").send().await;
    assert_eq!(answer.status, 401);
}
