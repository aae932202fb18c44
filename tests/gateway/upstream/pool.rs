//! Which server and which connection a request gets.

use foregate::denial::Reason;
use socket2::{Domain, Socket, Type};

use super::{echo_target, one_pool, with_one_pool};
use crate::support::client::Door;
use crate::support::{Gate, Gateway, Http, Origin, Reply, eventually};

/// One worker in front of several servers.
async fn in_front_of(servers: &[String], more: &str) -> Gateway {
    Gateway::with(|config| {
        one_pool(config);
        config.upstream("origin", &servers.join("\", \""), more);
    })
    .await
}

/// One worker in front of one server.
async fn alone(more: &str) -> Gateway {
    let origin = Origin::start();
    let url = origin.url();
    Gateway::before(origin, |config| {
        one_pool(config);
        config.upstream("origin", &url, more);
    })
    .await
}

/// From now on the origin answers no request before the gate opens.
fn held(origin: &Origin) -> Gate {
    let gate = Gate::new();
    let closed = gate.clone();
    origin.otherwise(move |exchange| {
        closed.pass();
        exchange.reply(&Reply::ok());
    });
    gate
}

/// An address that refuses connections, as long as the socket exists.
fn refusing() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, format!("http://{address}"))
}

#[tokio::test]
async fn requests_in_a_row_share_one_connection() {
    let gateway = with_one_pool().await;
    for http in Http::BOTH {
        let mut client = gateway.connect(http).await;
        for _ in 0..20 {
            client.get("/a").send().await.is_ok();
            gateway.post(http, "/b").body("body").send().await.is_ok();
        }
    }
    assert_eq!(gateway.origin.take().len(), 80);
    assert_eq!(gateway.origin.connections(), 1);
}

#[tokio::test]
async fn concurrent_requests_have_connections_of_their_own() {
    let gateway = with_one_pool().await;
    let gate = Gate::new();
    let closed = gate.clone();
    gateway.origin.otherwise(move |exchange| {
        closed.pass();
        echo_target(exchange);
    });
    let client = gateway.connect(Http::Two).await;
    let calls: Vec<_> = (0..10)
        .map(|number| {
            let mut client = client.another();
            tokio::spawn(async move {
                let path = format!("/{number}");
                assert_eq!(client.get(&path).send().await.is_ok().text(), path);
            })
        })
        .collect();
    gateway.origin.has_seen(10).await;
    assert_eq!(gateway.origin.connections(), 10);
    gate.open();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn servers_are_used_in_turn() {
    let servers = [Origin::start(), Origin::start(), Origin::start()];
    let urls = servers.each_ref().map(Origin::url);
    let gateway = in_front_of(&urls, "").await;
    for http in Http::BOTH {
        for _ in 0..9 {
            gateway.get(http, "/a").send().await.is_ok();
        }
        for server in &servers {
            assert_eq!(server.take().len(), 3);
        }
    }
}

#[tokio::test]
async fn a_dead_server_is_skipped() {
    let (_first, one) = refusing();
    let (_second, two) = refusing();
    let gateway = in_front_of(&[one, two], "").await;
    for http in Http::BOTH {
        gateway
            .get(http, "/nobody")
            .send()
            .await
            .is_denied(Reason::UpstreamConnect);
    }
    let alive = Origin::start();
    let (_first, one) = refusing();
    let (_second, two) = refusing();
    let gateway = in_front_of(&[one, alive.url(), two], "").await;
    for http in Http::BOTH {
        for _ in 0..6 {
            gateway.get(http, "/a").send().await.is_ok();
            gateway.post(http, "/a").body("body").send().await.is_ok();
        }
        assert_eq!(alive.take().len(), 12, "each request came once");
    }
}

#[tokio::test]
async fn a_request_over_the_cap_waits_for_a_connection() {
    let gateway = alone(", max_connections: 1, connect_timeout: 20s").await;
    for http in Http::BOTH {
        let gate = held(&gateway.origin);
        let calls: Vec<_> = (0..5)
            .map(|_| tokio::spawn(gateway.connector(http, Door::Tls).call("GET", "/a").send()))
            .collect();
        gateway.origin.has_seen(1).await;
        gate.open();
        for call in calls {
            call.await.unwrap().is_ok();
        }
        assert_eq!(gateway.origin.take().len(), 5);
    }
    assert_eq!(gateway.origin.connections(), 1);
}

#[tokio::test]
async fn a_request_that_waited_too_long_is_refused_and_never_sent() {
    let gateway = alone(", max_connections: 2, connect_timeout: 200ms").await;
    for http in Http::BOTH {
        let gate = held(&gateway.origin);
        let calls: Vec<_> = (0..2)
            .map(|_| tokio::spawn(gateway.connector(http, Door::Tls).call("GET", "/a").send()))
            .collect();
        gateway.origin.has_seen(2).await;
        gateway
            .get(http, "/b")
            .send()
            .await
            .is_denied(Reason::UpstreamBusy);
        gate.open();
        for call in calls {
            call.await.unwrap().is_ok();
        }
        assert!(gateway.origin.take().iter().all(|seen| seen.target == "/a"));
        // A slot that was given up is free again.
        gateway.get(http, "/c").send().await.is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn the_cap_applies_to_all_workers_together() {
    let origin = Origin::start();
    let url = origin.url();
    let gateway = Gateway::before(origin, |config| {
        one_pool(config);
        config.set("workers", "2").upstream(
            "origin",
            &url,
            ", max_connections: 3, connect_timeout: 200ms",
        );
    })
    .await;
    let gate = held(&gateway.origin);
    // Connections are spread over the workers, so that each has more requests than its share of the
    // cap.
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let client = gateway.connector(Http::One, Door::Tls);
            tokio::spawn(client.call("GET", "/a").send())
        })
        .collect();
    eventually("all but three are refused", || {
        let busy = [("reason", Reason::UpstreamBusy.code())];
        gateway.metrics().sum("foregate_requests_total", &busy) == 5.0
    })
    .await;
    gate.open();
    let mut answered = Vec::new();
    for call in calls {
        answered.push(call.await.unwrap().status.as_u16());
    }
    answered.sort_unstable();
    assert_eq!(answered, [200, 200, 200, 503, 503, 503, 503, 503]);
    assert_eq!(gateway.origin.connections(), 3);
}

#[tokio::test]
async fn a_connection_idle_for_too_long_is_closed() {
    let gateway = alone(", pool_idle: 100ms").await;
    gateway.get(Http::One, "/a").send().await.is_ok();
    eventually("the sweep", || gateway.origin.open_connections() == 0).await;
    let idle = [("state", "idle")];
    gateway
        .metric_becomes("foregate_upstream_connections", &idle, 0.0)
        .await;
}
