// A browser signs in with a cookie through a page of another origin, and other sites try to use that cookie. Started by tests/gateway/browser.rs,
// which says where everything is; what must not have happened behind the gateway is checked there. Exits with 0 if all of it holds.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { API, APIKEY, APP, EVIL, SOCKET, EMAIL, PASSWORD, CHROMIUM } = process.env;
const HOSTS = ["api.test", "app.api.test", "evil.test"];

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    `--host-resolver-rules=${HOSTS.map((host) => `MAP ${host} 127.0.0.1`).join(", ")}`,
  ],
});
try {
  await drive();
} finally {
  await browser.close();
}

/// Asks from inside a page, as its own script would: with cookies, and with what the page may read of the answer.
function ask(page, path, { method = "GET", headers = {}, body } = {}) {
  return page.evaluate(
    async ({ url, method, headers, body }) => {
      const answer = await fetch(url, { method, headers, body, credentials: "include" });
      const text = await answer.text();
      return { status: answer.status, json: text.startsWith("{") ? JSON.parse(text) : text };
    },
    { url: API + path, method, headers, body },
  );
}

/// Opens a WebSocket from inside a page: `open`, or `refused`.
function openSocket(page) {
  return page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url);
        window.ended = new Promise((told) => {
          socket.onclose = (event) => {
            told(event.code);
            resolve("refused");
          };
        });
        socket.onopen = () => socket.send("hello");
        socket.onmessage = (event) => resolve(`open: ${event.data}`);
      }),
    SOCKET,
  );
}

function step(name) {
  console.log(name);
}

async function drive() {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const cookies = async () => (await context.cookies(API)).filter((cookie) => cookie.name === "__Host-foregate");
  const app = await context.newPage();
  await app.goto(APP);

  step("nobody is signed in");
  assert.equal((await ask(app, "/page")).status, 401);
  assert.equal(await openSocket(app), "refused");

  step("the page signs in, and gets a cookie it cannot read");
  const login = await ask(app, "/api/v1/auth/login", {
    method: "POST",
    headers: { "content-type": "application/json", "x-use-cookie": "session" },
    body: JSON.stringify({ email: EMAIL, password: PASSWORD }),
  });
  assert.equal(login.status, 200, JSON.stringify(login.json));
  assert.equal(login.json.token_type, "cookie");
  assert.ok(!("access_token" in login.json) && !("refresh_token" in login.json));
  const csrf = login.json.csrf_token;
  assert.ok(csrf.length > 20);
  const [cookie] = await cookies();
  assert.ok(cookie.httpOnly && cookie.secure && cookie.path === "/" && cookie.domain === "api.test");
  assert.equal(await app.evaluate(() => document.cookie), "");

  step("it reads, and changes what it may with its token");
  assert.equal((await ask(app, "/page")).status, 200);
  const withoutToken = await ask(app, "/page", { method: "POST" });
  assert.deepEqual([withoutToken.status, withoutToken.json.code], [403, "csrf_token"]);
  const change = () => ask(app, "/page", { method: "POST", headers: { "x-csrf-token": csrf } });
  assert.equal((await change()).status, 200);
  assert.equal(await openSocket(app), "open: hello");

  step("the session outlives its access token");
  const until = Date.now() + 1000 * login.json.expires_in + 1500;
  while (Date.now() < until) {
    assert.equal((await ask(app, "/page")).status, 200);
    await new Promise((later) => setTimeout(later, 200));
  }
  assert.equal((await change()).status, 200);

  step("it survives a reload of the page");
  const second = await context.newPage();
  await second.goto(APP);
  assert.equal((await ask(second, "/page")).status, 200);
  const me = await ask(second, "/api/v1/auth/me");
  assert.deepEqual([me.status, me.json.email, me.json.csrf_token], [200, EMAIL, csrf]);

  step("a second factor raises the session, and the page sees no token");
  const own = async (method, path, document) => {
    const headers = { "content-type": "application/json", "x-csrf-token": csrf, apikey: APIKEY };
    const answer = await ask(app, path, { method, headers, body: document && JSON.stringify(document) });
    assert.equal(answer.status, 200, JSON.stringify(answer.json));
    const text = JSON.stringify(answer.json);
    assert.ok(!text.includes("eyJ") && !text.includes("refresh_token"), text);
    return answer.json;
  };
  assert.equal((await ask(app, "/second")).status, 403);
  for (const [factors, enroll] of [
    ["/api/v1/auth/factors", "/api/v1/auth/factors/enroll"],
    ["/auth/v1/factors", "/auth/v1/factors"],
  ]) {
    const { id } = await own("POST", enroll, { factor_type: "totp", friendly_name: factors });
    const challenge = await own("POST", `${factors}/${id}/challenge`, { factorId: id });
    const proven = await own("POST", `${factors}/${id}/verify`, { challenge_id: challenge.id, code: "123456" });
    assert.equal(proven.token_type, "cookie");
    assert.equal((await ask(app, "/second")).status, 200);
    await own("DELETE", `${factors}/${id}`);
    assert.equal((await ask(app, "/second")).status, 403);
  }
  assert.deepEqual(await cookies(), [cookie]);
  assert.equal((await change()).status, 200);

  step("another site's form is refused");
  const evil = await context.newPage();
  for (const [path, code] of [
    ["/page", "csrf_origin"],
    ["/api/v1/auth/logout", "csrf_origin"],
  ]) {
    await evil.goto(EVIL);
    const answered = evil.waitForResponse((response) => response.url() === API + path);
    await evil.evaluate((action) => {
      const form = document.createElement("form");
      Object.assign(form, { method: "POST", action, enctype: "text/plain" });
      document.body.append(form);
      form.submit();
    }, API + path);
    const response = await answered;
    assert.equal(response.status(), 403);
    await evil.waitForURL(API + path);
    const shown = JSON.parse(await evil.evaluate(() => document.body.innerText));
    assert.equal(shown.code, code);
  }

  step("another site's script is refused, and reads nothing");
  await evil.goto(EVIL);
  for (const options of [
    { method: "GET" },
    { method: "POST" },
    { method: "POST", headers: { "x-csrf-token": csrf } },
    { method: "POST", mode: "no-cors", body: "x" },
  ]) {
    const outcome = await evil.evaluate(
      async ({ url, options }) => {
        try {
          const answer = await fetch(url, { ...options, credentials: "include" });
          return answer.type;
        } catch {
          return "refused";
        }
      },
      { url: `${API}/page`, options },
    );
    assert.equal(outcome, options.mode === "no-cors" ? "opaque" : "refused");
  }
  assert.equal(await openSocket(evil), "refused");

  step("another site's form signs nobody in");
  const before = (await cookies())[0].value;
  await evil.goto(EVIL);
  const answered = evil.waitForResponse((response) => response.url().endsWith("/auth/login"));
  await evil.evaluate(
    ({ action, text }) => {
      const form = document.createElement("form");
      Object.assign(form, { method: "POST", action, enctype: "text/plain" });
      const input = document.createElement("input");
      Object.assign(input, { name: text, value: "" });
      form.append(input);
      document.body.append(form);
      form.submit();
    },
    { action: `${API}/api/v1/auth/login`, text: JSON.stringify({ email: EMAIL, password: PASSWORD, x: "" }) },
  );
  assert.ok((await answered).status() >= 400);
  assert.equal((await cookies())[0].value, before);
  assert.equal((await ask(app, "/page")).status, 200);

  step("signing out ends it, and its socket");
  const logout = await ask(app, "/api/v1/auth/logout", { method: "POST", headers: { "x-csrf-token": csrf } });
  assert.equal(logout.status, 200, JSON.stringify(logout.json));
  assert.equal(await app.evaluate(() => window.ended), 4401);
  const after = await ask(app, "/page");
  assert.equal(after.status, 401);
  assert.deepEqual(await cookies(), []);
  await context.addCookies([cookie]);
  assert.deepEqual([(await ask(app, "/page")).status, (await cookies()).length], [401, 0]);
  step("done");
}
