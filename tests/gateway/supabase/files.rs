//! A double of Supabase Storage: an object, a public object, and resumable uploads (tus 1.0.0).

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::{Origin, Reply};

const UPLOADS: &str = "/storage/v1/upload/resumable";

/// Returns what was uploaded in parts.
pub fn serve(origin: &Origin) -> Arc<Mutex<Vec<u8>>> {
    origin.on("/storage/v1/object/media/me/a%20b.txt", |exchange| {
        assert!(exchange.read_body());
        let request = exchange.request();
        assert_eq!(request.header("x-upsert"), Some("true"));
        assert!(String::from_utf8_lossy(&request.body).contains("hello"));
        let body = json!({ "Key": "media/me/a b.txt", "Id": "1" }).to_string();
        let reply = Reply::new(200).header("content-type", "application/json");
        exchange.reply(&reply.body(body));
    });
    origin.on("/storage/v1/object/public/media/me/a%20b.txt", |exchange| {
        assert_eq!(exchange.request().header("apikey"), None);
        exchange.reply(&Reply::new(200).body("public"));
    });
    let content = Arc::new(Mutex::new(Vec::new()));
    // With the name by which it knows itself, as the server of Supabase does.
    let location = format!("{}{UPLOADS}/1", origin.url());
    origin.on(UPLOADS, move |exchange| {
        assert_eq!(exchange.request().method, "POST");
        assert_eq!(exchange.request().header("upload-length"), Some("100000"));
        let reply = Reply::new(201).header("tus-resumable", "1.0.0");
        exchange.reply(&reply.header("location", &location));
    });
    let stored = content.clone();
    origin.on(&format!("{UPLOADS}/1"), move |exchange| {
        if exchange.request().method == "PATCH" {
            let offset = exchange
                .request()
                .header("upload-offset")
                .unwrap()
                .to_owned();
            assert!(exchange.read_body());
            let mut stored = stored.lock().unwrap();
            assert_eq!(offset, stored.len().to_string());
            stored.extend(&exchange.request().body);
        }
        let offset = stored.lock().unwrap().len().to_string();
        let status = if exchange.request().method == "PATCH" {
            204
        } else {
            200
        };
        let reply = Reply::new(status)
            .header("tus-resumable", "1.0.0")
            .header("cache-control", "no-store")
            .header("upload-offset", &offset);
        exchange.reply(&reply.header("upload-length", "100000"));
    });
    content
}
