//! A double of PostgREST: one table and one function.

use serde_json::{Value, json};

use crate::support::{Exchange, Origin, Reply};

fn answer(exchange: &mut Exchange, status: u16, body: &Value) {
    let reply = Reply::new(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("content-range", "0-0/*")
        .body(body.to_string());
    exchange.reply(&reply);
}

pub fn serve(origin: &Origin) {
    origin.on("/rest/v1/projects", |exchange| {
        let request = exchange.request().clone();
        match request.method.as_str() {
            "GET" => {
                assert_eq!(
                    request.target,
                    "/rest/v1/projects?select=id%2Cname&id=eq.1&order=name.asc&limit=5"
                );
                answer(exchange, 200, &json!([{ "id": 1, "name": "one" }]));
            }
            "POST" => {
                assert!(exchange.read_body());
                let body: Value = serde_json::from_slice(&exchange.request().body).unwrap();
                let returns = request.all("prefer").join(",").contains("representation");
                match (body, returns) {
                    (Value::Object(mut row), true) => {
                        row.insert("id".to_owned(), json!(2));
                        answer(exchange, 201, &json!([row]));
                    }
                    _ => exchange.reply(&Reply::new(201)),
                }
            }
            method => panic!("{method}"),
        }
    });
    origin.on("/rest/v1/rpc/search", |exchange| {
        answer(exchange, 200, &json!([{ "id": 1 }]));
    });
}
